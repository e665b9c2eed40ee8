// Outcomes of the core as Python exceptions, and the guard around every slot.
#pragma once

#include <new>
#include <stdexcept>

#include "core/channel.hpp"
#include "core/primitive.hpp"
#include "state.hpp"

namespace memchannel {

// Thrown when a Python exception is set already.
struct PythonError {};

// No C++ exception crosses a C frame. Nor does the end of a thread that CPython 3.13 takes away at exit with
// pthread_exit (Python/ceval_gil.c, take_gil), while Python code runs below: it stays here for ever, as
// CPython 3.14 has it.
template <class Result, class Body>
Result guarded(Result failure, Body body) noexcept {
    try {
        return body();
    } catch (const PythonError&) {
        return failure;
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    } catch (const std::exception& error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
    } catch (...) {
        stay_away();
    }
    return failure;
}

// Raises memchannel.errors.NAME.
void raise_named(ModuleState& state, const char* name, const char* format, ...) noexcept;
// The exception for an operation on an end that did not end with ok. Always sets one.
void raise_status(ModuleState& state, Status status, const Channel& channel, Side side) noexcept;
// False, with an exception: the object was made before os.fork().
bool check_process(const Channel& channel) noexcept;
bool check_process(const Primitive& primitive) noexcept;
// For finalizers: an unreleased view that dies as the last user of its lease is like an unclosed file.
void warn_unreleased(PyObject* view) noexcept;

}  // namespace memchannel
