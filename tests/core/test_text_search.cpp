// TextSearch: finds what a plain search finds, and takes no more steps than both lengths allow.
#include "core/text_search.hpp"

#include <random>
#include <string>
#include <vector>

#include "check.hpp"

using namespace memchannel;

namespace {

// Counts how often characters are looked at.
std::size_t looks = 0;

struct Counted {
    std::uint16_t value = 0;
    operator unsigned() const noexcept {  // NOLINT(google-explicit-constructor): stands for a character
        ++looks;
        return value;
    }
    friend bool operator==(Counted left, Counted right) noexcept {
        ++looks;
        return left.value == right.value;
    }
    friend bool operator<(Counted left, Counted right) noexcept {
        ++looks;
        return left.value < right.value;
    }
};

template <class Char>
std::size_t plain(const std::basic_string<Char>& text, const std::basic_string<Char>& wanted) {
    const std::size_t at = text.find(wanted);
    return at == std::basic_string<Char>::npos ? not_found : at;
}

template <class Char>
Chars<Char> chars(const std::basic_string<Char>& text) {
    return {text.data(), text.size(), 1};
}

// The text number `number` in the order of all words over `letters` letters of that length.
std::basic_string<char16_t> word(std::size_t number, std::size_t length, std::size_t letters) {
    std::basic_string<char16_t> result(length, u'\0');
    for (char16_t& letter : result) {
        letter = static_cast<char16_t>(number % letters * 64);  // all in the same slot of the shifts
        number /= letters;
    }
    return result;
}

}  // namespace

TEST(all_short_texts) {
    for (std::size_t needle_length = 0; needle_length <= 5; ++needle_length) {
        for (std::size_t n = 0; n < (std::size_t{1} << needle_length); ++n) {
            const auto needle = word(n, needle_length, 2);
            const TextSearch<char16_t> search(chars(needle));
            const TextSearch<char16_t> backwards(chars(needle).reversed());
            for (std::size_t length = 0; length <= 10; ++length) {
                for (std::size_t t = 0; t < (std::size_t{1} << length); ++t) {
                    const auto text = word(t, length, 2);
                    CHECK_EQ(search.find(chars(text)), plain(text, needle));
                    const std::size_t last = text.rfind(needle);
                    const std::size_t found = backwards.find(chars(text).reversed());
                    CHECK_EQ(found, last == text.npos ? not_found : length - needle_length - last);
                }
            }
        }
    }
}

TEST(random_texts) {
    std::mt19937 random(20240229);
    const auto number = [&](unsigned below) { return static_cast<unsigned>(random() % below); };
    for (int round = 0; round < 20'000; ++round) {
        const unsigned letters = 1 + number(4);
        std::basic_string<char32_t> text(number(200), U'a');
        for (char32_t& letter : text) letter = U'a' + number(letters) * (number(9) == 0 ? 64 : 1);
        std::basic_string<char32_t> needle(number(12), U'a');
        for (char32_t& letter : needle) letter = U'a' + number(letters);
        if (!text.empty() && number(2))
            needle = text.substr(number(static_cast<unsigned>(text.size())), number(60));
        CHECK_EQ(TextSearch<char32_t>(chars(needle)).find(chars(text)), plain(text, needle));
        // Every third character of a text in which the others are noise.
        std::basic_string<char32_t> spread;
        for (const char32_t letter : text) spread += {letter, static_cast<char32_t>(number(99)), U'x'};
        const Chars<char32_t> third{spread.data(), text.size(), 3};
        CHECK_EQ(TextSearch<char32_t>(chars(needle)).find(third), plain(text, needle));
    }
}

namespace {

std::vector<Counted> counted(const std::string& text) {
    std::vector<Counted> result;
    for (const char letter : text) result.push_back(Counted{static_cast<std::uint16_t>(letter)});
    return result;
}

std::size_t looks_of(const std::string& text, const std::string& wanted) {
    const auto where = counted(text), what = counted(wanted);
    looks = 0;
    const std::size_t found =
        TextSearch<Counted>({what.data(), what.size(), 1}).find({where.data(), where.size(), 1});
    CHECK_EQ(found, plain(text, wanted));
    return looks;
}

std::string repeated(const std::string& text, std::size_t count) {
    std::string result;
    while (count-- > 0) result += text;
    return result;
}

}  // namespace

// What makes a plain search quadratic.
TEST(worst_cases) {
    const std::size_t n = 50'000, m = 1'000;
    const std::string a(n, 'a');
    const std::string texts[] = {a, repeated("ab", n / 2), repeated(std::string(m - 1, 'a') + "b", n / m)};
    const std::string needles[] = {
        std::string(m, 'a') + "b",
        "b" + std::string(m, 'a'),
        std::string(m / 2, 'a') + "b" + std::string(m / 2, 'a'),
        repeated("ab", m / 2) + "b",
        "b" + repeated("ab", m / 2),
        std::string(m, 'a'),
        repeated("aab", m / 3) + "c",
    };
    for (const std::string& text : texts) {
        for (const std::string& needle : needles) CHECK(looks_of(text, needle) < 12 * (n + m));
    }
}

int main(int count, char** arguments) { return check::run(count, arguments); }
