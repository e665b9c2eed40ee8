// Vectorcall arguments by position or name, without building tuples and dicts.
#pragma once

#include <array>
#include <initializer_list>

#include "errors.hpp"

namespace memchannel {

// Method tables hold all functions as PyCFunction, whatever their flags say that they take.
template <class Function>
PyCFunction as_function(Function function) noexcept {
    return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

// Throws PythonError.
inline std::int64_t interpreter_number(PyObject* interpreter) {
    const long long number = PyLong_AsLongLong(interpreter);
    if (number == -1 && PyErr_Occurred()) throw PythonError();
    return number;
}

template <std::size_t Count>
class Arguments {
   public:
    // Names in order; the first `positional` may be given by position, the first `required` must be given.
    // Throws PythonError with TypeError.
    Arguments(const char* function, const std::array<const char*, Count>& names, Py_ssize_t positional,
              Py_ssize_t required, PyObject* const* values, Py_ssize_t given, PyObject* keywords) {
        if (given > positional) {
            PyErr_Format(PyExc_TypeError, "%s() takes at most %zd positional argument%s (%zd given)",
                         function, positional, positional == 1 ? "" : "s", given);
            throw PythonError();
        }
        for (Py_ssize_t i = 0; i < given; ++i) values_[static_cast<std::size_t>(i)] = values[i];
        const Py_ssize_t named = keywords ? PyTuple_GET_SIZE(keywords) : 0;
        for (Py_ssize_t i = 0; i < named; ++i)
            place(function, names, PyTuple_GET_ITEM(keywords, i), values[given + i]);
        for (Py_ssize_t i = 0; i < required; ++i) {
            if (values_[static_cast<std::size_t>(i)]) continue;
            PyErr_Format(PyExc_TypeError, "%s() missing required argument '%s'", function,
                         names[static_cast<std::size_t>(i)]);
            throw PythonError();
        }
    }

    PyObject* operator[](std::size_t index) const noexcept { return values_[index]; }
    bool truth(std::size_t index) const {
        if (!values_[index]) return false;
        const int truth = PyObject_IsTrue(values_[index]);
        if (truth < 0) throw PythonError();
        return truth == 1;
    }

   private:
    void place(const char* function, const std::array<const char*, Count>& names, PyObject* name,
               PyObject* value) {
        for (std::size_t i = 0; i < Count; ++i) {
            if (PyUnicode_CompareWithASCIIString(name, names[i]) != 0) continue;
            if (values_[i]) {
                PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%s'", function,
                             names[i]);
                throw PythonError();
            }
            values_[i] = value;
            return;
        }
        PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", function, name);
        throw PythonError();
    }

    std::array<PyObject*, Count> values_{};
};

}  // namespace memchannel
