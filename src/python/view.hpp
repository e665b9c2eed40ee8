// CrossInterpreterView, a real memoryview subclass, and the exporter object behind views and arrays.
#pragma once

#include "core/lease.hpp"
#include "state.hpp"

namespace memchannel {

struct Layout {
    void* data;
    Py_ssize_t len;
    Py_ssize_t itemsize;
    int ndim;
    const Py_ssize_t* shape;
    const Py_ssize_t* strides;
    const char* format;
    bool writable = false;
};

// An object that holds the lease and exports the memory. The layout is copied.
Ref make_exporter(ModuleState& state, LeaseRef lease, const Layout& layout);
Ref make_view(ModuleState& state, Ref exporter);

// The lease of an exporter object; nullptr for anything else. Borrowed.
Lease* exporter_lease(PyObject* object) noexcept;

bool add_view_types(PyObject* module, ModuleState& state) noexcept;

}  // namespace memchannel
