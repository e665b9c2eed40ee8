// Ownership of Python references. None of these may be stored where the core can reach it.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <utility>

namespace memchannel {

class Ref {
   public:
    Ref() noexcept = default;
    static Ref steal(PyObject* object) noexcept { return Ref(object); }
    static Ref borrow(PyObject* object) noexcept { return Ref(Py_XNewRef(object)); }
    Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
    Ref& operator=(Ref&& other) noexcept {
        std::swap(object_, other.object_);
        return *this;
    }
    Ref(const Ref&) = delete;
    Ref& operator=(const Ref&) = delete;
    ~Ref() { Py_XDECREF(object_); }

    PyObject* get() const noexcept { return object_; }
    PyObject* release() noexcept { return std::exchange(object_, nullptr); }
    explicit operator bool() const noexcept { return object_ != nullptr; }

   private:
    explicit Ref(PyObject* object) noexcept : object_(object) {}
    PyObject* object_ = nullptr;
};

// An attribute by interned name: the types' method cache holds a name by its address (Objects/typeobject.c,
// MCACHE_HASH_METHOD), so that every new string, as PyObject_GetAttrString and PyObject_CallMethod make them,
// would take up, and keep, another entry.
inline Ref attribute(PyObject* object, const char* name) noexcept {
    Ref interned = Ref::steal(PyUnicode_InternFromString(name));
    return interned ? Ref::steal(PyObject_GetAttr(object, interned.get())) : Ref();
}

// Keeps the exception of the current thread state across code that must neither see nor change it. Construct
// it after attaching: the exception lives in the thread state.
class ErrorScope {
   public:
    ErrorScope() noexcept : saved_(PyErr_GetRaisedException()) {}
    ErrorScope(const ErrorScope&) = delete;
    ErrorScope& operator=(const ErrorScope&) = delete;
    ~ErrorScope() {
        if (saved_ || PyErr_Occurred()) PyErr_SetRaisedException(saved_);
    }

   private:
    PyObject* saved_;
};

// A buffer for the length of a scope.
class BufferScope {
   public:
    BufferScope() noexcept = default;
    BufferScope(const BufferScope&) = delete;
    BufferScope& operator=(const BufferScope&) = delete;
    ~BufferScope() {
        if (held_) PyBuffer_Release(&buffer_);
    }
    bool acquire(PyObject* object, int flags) noexcept {
        held_ = PyObject_GetBuffer(object, &buffer_, flags) == 0;
        return held_;
    }
    const Py_buffer& operator*() const noexcept { return buffer_; }
    const Py_buffer* operator->() const noexcept { return &buffer_; }
    // The buffer belongs to the caller from here on.
    Py_buffer release() noexcept {
        held_ = false;
        return buffer_;
    }

   private:
    Py_buffer buffer_{};
    bool held_ = false;
};

}  // namespace memchannel
