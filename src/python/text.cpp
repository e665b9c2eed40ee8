#include "text.hpp"

#include <cstring>
#include <type_traits>

#include "attach.hpp"
#include "errors.hpp"

namespace memchannel {

namespace {

constexpr Py_ssize_t long_text = 1 << 16;  // characters: from here on others may run meanwhile

class Elsewhere {
   public:
    explicit Elsewhere(Py_ssize_t length) noexcept {
        if (length >= long_text) detached_.emplace();
    }

   private:
    std::optional<Detached> detached_;
};

bool in_one_piece(const Text& text) noexcept { return text.step == 1; }

std::size_t size_of_text(const Text& text) noexcept {
    return static_cast<std::size_t>(text.length) * static_cast<std::size_t>(text.kind);
}

template <class Left, class Right>
int compare_chars(Chars<Left> left, Chars<Right> right) noexcept {
    const std::size_t common = std::min(left.length, right.length);
    for (std::size_t i = 0; i < common; ++i) {
        if (left[i] != right[i]) return left[i] < right[i] ? -1 : 1;
    }
    return left.length == right.length ? 0 : left.length < right.length ? -1 : 1;
}

// The wanted characters in the size of the text's own; nothing if one of them does not fit, so that it cannot
// be there.
template <class Char>
std::optional<std::vector<Char>> converted(const Text& wanted) {
    return visit_text(wanted, [](auto chars) -> std::optional<std::vector<Char>> {
        std::vector<Char> result(chars.length);
        for (std::size_t i = 0; i < chars.length; ++i) {
            const Py_UCS4 letter = chars[i];
            result[i] = static_cast<Char>(letter);
            if (result[i] != letter) return std::nullopt;
        }
        return result;
    });
}

// search(Chars of the text, Chars wanted, both of the same size), or `otherwise`.
template <class Search>
Py_ssize_t with_same_size(const Text& text, const Text& wanted, Py_ssize_t otherwise, Search search) {
    return visit_text(text, [&](auto chars) -> Py_ssize_t {
        using Char = std::remove_cvref_t<decltype(chars[0])>;
        if (wanted.kind == text.kind) {
            return search(chars, Chars<Char>{static_cast<const Char*>(wanted.data),
                                             static_cast<std::size_t>(wanted.length), wanted.step});
        }
        const auto same = converted<Char>(wanted);
        return same ? search(chars, Chars<Char>{same->data(), same->size(), 1}) : otherwise;
    });
}

}  // namespace

Text Text::part(Py_ssize_t start, Py_ssize_t count, Py_ssize_t distance) const noexcept {
    Text result;
    // Nothing is at the end of the text, nor before its beginning: no pointer goes there.
    result.data = static_cast<const char*>(data) + (count ? start * step * kind : 0);
    result.length = count;
    result.step = count > 1 ? step * distance : 1;
    result.kind = kind;
    result.lease = lease;
    return result;
}

bool equal(const Text& left, const Text& right) {
    if (left.length != right.length) return false;
    const Elsewhere elsewhere(left.length);
    if (left.kind == right.kind && in_one_piece(left) && in_one_piece(right))
        return left.length == 0 || std::memcmp(left.data, right.data, size_of_text(left)) == 0;
    return visit_text(left, [&](auto ours) {
        return visit_text(right, [&](auto theirs) { return compare_chars(ours, theirs) == 0; });
    });
}

int compare(const Text& left, const Text& right) {
    const Elsewhere elsewhere(std::min(left.length, right.length));
    return visit_text(left, [&](auto ours) {
        return visit_text(right, [&](auto theirs) { return compare_chars(ours, theirs); });
    });
}

Py_ssize_t find_text(const Text& text, const Text& wanted, From from) {
    if (wanted.length > text.length) return -1;
    const Elsewhere elsewhere(text.length);
    return with_same_size(text, wanted, -1, [&](auto chars, auto needle) -> Py_ssize_t {
        if (from == From::end) {
            const std::size_t at = TextSearch(needle.reversed()).find(chars.reversed());
            return at == not_found ? -1 : static_cast<Py_ssize_t>(chars.length - at - needle.length);
        }
        const std::size_t at = TextSearch(needle).find(chars);
        return at == not_found ? -1 : static_cast<Py_ssize_t>(at);
    });
}

Py_ssize_t count_text(const Text& text, const Text& wanted) {
    if (wanted.length == 0) return text.length + 1;
    if (wanted.length > text.length) return 0;
    const Elsewhere elsewhere(text.length);
    return with_same_size(text, wanted, 0, [&](auto chars, auto needle) -> Py_ssize_t {
        const TextSearch search(needle);
        Py_ssize_t count = 0;
        for (std::size_t begin = 0;; ++count) {
            const std::size_t at = search.find(chars.from(begin, chars.length - begin));
            if (at == not_found) return count;
            begin += at + needle.length;
        }
    });
}

Py_UCS4 largest_char(const Text& text) {
    const Elsewhere elsewhere(text.length);
    return visit_text(text, [](auto chars) {
        Py_UCS4 bits = 0;  // enough to tell the ranges apart: they end with powers of two
        for (std::size_t i = 0; i < chars.length; ++i) bits |= chars[i];
        return std::min<Py_UCS4>(bits, 0x10ffff);
    });
}

Ref to_str(const Text& text) {
    if (in_one_piece(text)) {
        Ref result = Ref::steal(PyUnicode_FromKindAndData(text.kind, text.data, text.length));
        if (!result) throw PythonError();
        return result;
    }
    Ref result = Ref::steal(PyUnicode_New(text.length, largest_char(text)));
    if (!result) throw PythonError();
    const auto kind = PyUnicode_KIND(result.get());
    void* const data = PyUnicode_DATA(result.get());
    visit_text(text, [&](auto chars) {
        for (std::size_t i = 0; i < chars.length; ++i)
            PyUnicode_WRITE(kind, data, static_cast<Py_ssize_t>(i), chars[i]);
        return 0;
    });
    return result;
}

}  // namespace memchannel
