// Text in another interpreter's memory, or here: what StringView and its search have in common.
#pragma once

#include <optional>
#include <vector>

#include "core/lease.hpp"
#include "core/text_search.hpp"
#include "ref.hpp"

namespace memchannel {

// Characters that do not change. The lease, if any, keeps them.
struct Text {
    const void* data = nullptr;
    Py_ssize_t length = 0;
    Py_ssize_t step = 1;  // in characters
    int kind = 1;         // bytes of a character
    LeaseRef lease;

    // Of the characters from `start` on, `distance` apart.
    Text part(Py_ssize_t start, Py_ssize_t count, Py_ssize_t distance = 1) const noexcept;
};

// Calls visit(Chars<...>) for characters of the text's size.
template <class Visit>
auto visit_text(const Text& text, Visit visit) {
    const auto length = static_cast<std::size_t>(text.length);
    switch (text.kind) {
        case 1:
            return visit(Chars<Py_UCS1>{static_cast<const Py_UCS1*>(text.data), length, text.step});
        case 2:
            return visit(Chars<Py_UCS2>{static_cast<const Py_UCS2*>(text.data), length, text.step});
        default:
            return visit(Chars<Py_UCS4>{static_cast<const Py_UCS4*>(text.data), length, text.step});
    }
}

enum class From : std::uint8_t { start, end };

// Below, what takes long lets the GIL go; the text's lease, or the caller, keeps the characters meanwhile.

bool equal(const Text& left, const Text& right);
// < 0, 0, > 0, by code points.
int compare(const Text& left, const Text& right);
Py_ssize_t find_text(const Text& text, const Text& wanted, From from);  // -1: nowhere
Py_ssize_t count_text(const Text& text, const Text& wanted);            // without overlaps
Py_UCS4 largest_char(const Text& text);
// A str with the characters. Throws PythonError.
Ref to_str(const Text& text);

}  // namespace memchannel
