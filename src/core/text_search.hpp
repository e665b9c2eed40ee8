// Search in text of 1, 2 or 4 bytes a character, forwards or backwards, in time linear in both lengths,
// whatever they hold: the Two-Way algorithm (Crochemore and Perrin, Two-way string-matching, JACM 38(3),
// 1991), with shifts by the last character of the window as the C libraries have them (glibc
// string/str-two-way.h).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace memchannel {

inline constexpr std::size_t not_found = static_cast<std::size_t>(-1);

// Characters at regular distances.
template <class Char>
struct Chars {
    const Char* first = nullptr;
    std::size_t length = 0;
    std::ptrdiff_t step = 1;

    Char operator[](std::size_t index) const noexcept {
        return first[static_cast<std::ptrdiff_t>(index) * step];
    }
    Chars from(std::size_t index, std::size_t count) const noexcept {
        return {count ? first + static_cast<std::ptrdiff_t>(index) * step : first, count, step};
    }
    Chars reversed() const noexcept { return {length ? &last() : first, length, -step}; }

   private:
    const Char& last() const noexcept { return first[static_cast<std::ptrdiff_t>(length - 1) * step]; }
};

template <class Char>
std::size_t find_char(Chars<Char> text, Char wanted) noexcept {
    if constexpr (sizeof(Char) == 1) {
        if (text.step == 1) {
            const void* const at = text.length ? std::memchr(text.first, wanted, text.length) : nullptr;
            return at ? static_cast<std::size_t>(static_cast<const Char*>(at) - text.first) : not_found;
        }
    }
    for (std::size_t i = 0; i < text.length; ++i) {
        if (text[i] == wanted) return i;
    }
    return not_found;
}

// What is to be found, prepared for any number of texts. The needle must live as long.
template <class Char>
class TextSearch {
   public:
    explicit TextSearch(Chars<Char> needle) noexcept : needle_(needle) {
        if (needle.length < 2) return;
        factorize();
        shifts_.fill(needle.length);
        for (std::size_t i = 0; i < needle.length; ++i) shifts_[slot(needle[i])] = needle.length - 1 - i;
    }

    // The first place in the text, or not_found. An empty needle is at 0.
    std::size_t find(Chars<Char> text) const noexcept {
        if (needle_.length == 0) return 0;
        if (needle_.length > text.length) return not_found;
        if (needle_.length == 1) return find_char(text, needle_[0]);
        return find_long(text);
    }

   private:
    static std::size_t slot(Char letter) noexcept { return letter % slots; }

    struct Suffix {
        std::size_t start;
        std::size_t period;
    };

    // The largest suffix in the order of the characters, or in the opposite one.
    Suffix largest_suffix(bool opposite) const noexcept {
        std::size_t start = 0, rival = 1, matched = 0, period = 1;
        while (rival + matched < needle_.length) {
            const Char ours = needle_[start + matched], theirs = needle_[rival + matched];
            if (ours == theirs) {
                if (++matched == period) {
                    rival += period;
                    matched = 0;
                }
            } else if ((theirs < ours) != opposite) {
                rival += matched + 1;
                matched = 0;
                period = rival - start;
            } else {
                start = rival++;
                matched = 0;
                period = 1;
            }
        }
        return {start, period};
    }

    // Where to begin to compare, so that a mismatch to the right of it allows a shift by all that matched.
    void factorize() noexcept {
        const Suffix one = largest_suffix(false), other = largest_suffix(true);
        const Suffix critical = one.start >= other.start ? one : other;
        cut_ = critical.start;
        period_ = critical.period;
        bool periodic = cut_ + period_ <= needle_.length;
        for (std::size_t i = 0; periodic && i < cut_; ++i) periodic = needle_[i] == needle_[i + period_];
        if (periodic) {
            remembered_ = needle_.length - period_;
        } else {
            period_ = std::max(cut_, needle_.length - cut_) + 1;
        }
    }

    std::size_t find_long(Chars<Char> text) const noexcept {
        const std::size_t length = needle_.length;
        std::size_t at = 0, known = 0;  // so many characters of the window are known to match
        while (at + length <= text.length) {
            const Chars<Char> window = text.from(at, length);
            if (const std::size_t shift = shifts_[slot(window[length - 1])]) {
                // Less than what is known to match cannot be a period of it.
                at += std::max(shift, known);
                known = 0;
                continue;
            }
            std::size_t i = std::max(cut_, known);
            while (i < length && needle_[i] == window[i]) ++i;
            if (i < length) {
                at += i - cut_ + 1;
                known = 0;
                continue;
            }
            i = cut_;
            while (i > known && needle_[i - 1] == window[i - 1]) --i;
            if (i <= known) return at;
            at += period_;
            known = remembered_;
        }
        return not_found;
    }

    static constexpr std::size_t slots = 64;

    Chars<Char> needle_;
    std::size_t cut_ = 0;
    std::size_t period_ = 1;
    std::size_t remembered_ = 0;  // of a periodic needle: what matches again after a shift by its period
    std::array<std::size_t, slots> shifts_{};
};

}  // namespace memchannel
