// The structures of the Arrow C data and C stream interfaces, and their capsules
// (arrow.apache.org/docs/format: CDataInterface, CStreamInterface, CDataInterface/PyCapsuleInterface).
#pragma once

#include <cstdint>
#include <memory>

#include "errors.hpp"

namespace memchannel {

struct ArrowSchema {
    const char* format;
    const char* name;
    const char* metadata;
    std::int64_t flags;
    std::int64_t n_children;
    ArrowSchema** children;
    ArrowSchema* dictionary;
    void (*release)(ArrowSchema*);
    void* private_data;
    static constexpr const char* capsule = "arrow_schema";
};
struct ArrowArray {
    std::int64_t length;
    std::int64_t null_count;
    std::int64_t offset;
    std::int64_t n_buffers;
    std::int64_t n_children;
    const void** buffers;
    ArrowArray** children;
    ArrowArray* dictionary;
    void (*release)(ArrowArray*);
    void* private_data;
    static constexpr const char* capsule = "arrow_array";
};
struct ArrowArrayStream {
    int (*get_schema)(ArrowArrayStream*, ArrowSchema*);  // 0 or a value of errno
    int (*get_next)(ArrowArrayStream*, ArrowArray*);     // the end is an array that is released already
    const char* (*get_last_error)(ArrowArrayStream*);
    void (*release)(ArrowArrayStream*);
    void* private_data;
    static constexpr const char* capsule = "arrow_array_stream";
};

// A consumer that took the structure has copied it and marked this one as released.
struct EndStructure {
    template <class Structure>
    void operator()(Structure* structure) const noexcept {
        if (structure->release) structure->release(structure);
        delete structure;
    }
};
template <class Structure>
using Owned = std::unique_ptr<Structure, EndStructure>;

template <class Structure>
Ref structure_capsule(Owned<Structure> structure) {
    Ref capsule = Ref::steal(PyCapsule_New(structure.get(), Structure::capsule, [](PyObject* self) {
        EndStructure()(static_cast<Structure*>(PyCapsule_GetPointer(self, Structure::capsule)));
    }));
    if (!capsule) throw PythonError();
    structure.release();
    return capsule;
}

}  // namespace memchannel
