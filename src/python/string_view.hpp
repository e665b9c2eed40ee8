// StringView: the characters of a str that another interpreter lends.
#pragma once

#include "lease_buffer.hpp"
#include "parts.hpp"
#include "state.hpp"

namespace memchannel {

// A str, or a StringView that is passed on.
bool is_text(PyObject* object) noexcept;
bool is_string_view(PyObject* object) noexcept;

// Throw PythonError (a released view among others).
LeaseRef encode_text(ModuleState& state, PyObject* object, const LendTerms& terms, const HeaderSink& sink);
Ref decode_text(ModuleState& state, const std::byte* at, LeaseRef lease);

bool add_string_view_type(PyObject* module, ModuleState& state) noexcept;

}  // namespace memchannel
