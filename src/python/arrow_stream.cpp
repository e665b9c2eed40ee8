#include "arrow_stream.hpp"

#include <cerrno>
#include <utility>
#include <vector>

#include "arguments.hpp"
#include "arrow_abi.hpp"
#include "parts.hpp"

namespace memchannel {

namespace {

// What is lent. All interpreters are in one process: the receiver reads the owner's structures, and what
// they point to, for as long as the lease lasts.
struct Batches {
    const ArrowSchema* schema;
    const Owned<ArrowArray>* arrays;
    std::size_t count;
};

struct Contents {
    Batches batches{};
    Owned<ArrowSchema> schema;
    std::vector<Owned<ArrowArray>> arrays;

    void describe() noexcept { batches = Batches{schema.get(), arrays.data(), arrays.size()}; }
};

struct ArrowBatches {
    PyObject_HEAD Contents* contents;
};

Contents* contents_of(PyObject* self) noexcept { return reinterpret_cast<ArrowBatches*>(self)->contents; }

void batches_dealloc(PyObject* self) {
    PyTypeObject* const type = Py_TYPE(self);
    {
        const ErrorScope errors;  // the library that made the structures may run Python code
        delete contents_of(self);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

int batches_getbuffer(PyObject* self, Py_buffer* view, int flags) {
    return PyBuffer_FillInfo(view, self, &contents_of(self)->batches, sizeof(Batches), 1, flags);
}

PyType_Slot batches_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(batches_dealloc)},
    {Py_bf_getbuffer, reinterpret_cast<void*>(batches_getbuffer)},
    {Py_tp_doc, const_cast<char*>("The record batches of an Arrow stream, to be lent. Its buffer tells where "
                                  "they are.")},
    {0, nullptr},
};

PyType_Spec batches_spec = {
    "memchannel._core.ArrowBatches",
    sizeof(ArrowBatches),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    batches_slots,
};

// 0 or a value of errno.
int read_stream(ArrowArrayStream& stream, Contents& contents) {
    contents.schema = Owned<ArrowSchema>(new ArrowSchema());
    if (const int status = stream.get_schema(&stream, contents.schema.get())) return status;
    for (;;) {
        Owned<ArrowArray> array(new ArrowArray());
        if (const int status = stream.get_next(&stream, array.get())) return status;
        if (!array->release) break;
        contents.arrays.push_back(std::move(array));
    }
    contents.describe();
    return 0;
}

template <class Structure>
Owned<Structure> taken(PyObject* capsule) {
    auto* const given = static_cast<Structure*>(PyCapsule_GetPointer(capsule, Structure::capsule));
    if (!given) throw PythonError();
    if (!given->release) {
        PyErr_Format(PyExc_ValueError, "this %s was taken already", Structure::capsule);
        throw PythonError();
    }
    Owned<Structure> structure(new Structure(*given));
    given->release = nullptr;
    return structure;
}

Ref batches_holding(ModuleState& state) {
    PyTypeObject* const type = state.arrow_batches_type;
    Ref self = Ref::steal(type->tp_alloc(type, 0));
    if (!self) throw PythonError();
    reinterpret_cast<ArrowBatches*>(self.get())->contents = new Contents();
    return self;
}

// (length, null count or -1, offset, address of the validity bits or 0, address of the values)
Ref values_of(const ArrowArray& array) {
    const bool held = array.n_buffers == 2 && array.buffers;
    Ref values = Ref::steal(
        Py_BuildValue("LLLKK", static_cast<long long>(array.length), static_cast<long long>(array.null_count),
                      static_cast<long long>(array.offset),
                      reinterpret_cast<unsigned long long>(held ? array.buffers[0] : nullptr),
                      reinterpret_cast<unsigned long long>(held ? array.buffers[1] : nullptr)));
    if (!values) throw PythonError();
    return values;
}

// Whether something is missing in an array or in a part of it: fields, elements, runs, a dictionary. A part
// can be larger than what the array uses of it.
bool has_nulls(const ArrowSchema& schema, const ArrowArray& array) noexcept {
    if (array.null_count > 0) return true;
    const bool is_union = schema.format[0] == '+' && schema.format[1] == 'u';  // has no validity bits
    if (array.null_count < 0 && !is_union && array.n_buffers > 0 && array.buffers[0]) {
        const auto* const valid = static_cast<const std::uint8_t*>(array.buffers[0]);
        for (std::int64_t i = array.offset; i < array.offset + array.length; ++i) {
            if (!(valid[i / 8] >> (i % 8) & 1)) return true;
        }
    }
    for (std::int64_t i = 0; i < array.n_children; ++i) {
        if (has_nulls(*schema.children[i], *array.children[i])) return true;
    }
    return array.dictionary && has_nulls(*schema.dictionary, *array.dictionary);
}

// ---- the receiver's structures: they point into the owner's and hold the lease

template <class Structure>
struct Shared {
    LeaseRef lease;
    std::vector<Owned<Structure>> children;
    std::vector<Structure*> pointers;
    Owned<Structure> dictionary;
};

// Each child has a lease of its own: a consumer may keep a child and release its parent.
template <class Structure>
Owned<Structure> shared(const Structure& from, Lease* lease) {
    auto parts = std::make_unique<Shared<Structure>>();
    parts->lease = LeaseRef::share(lease);
    for (std::int64_t i = 0; i < from.n_children; ++i) {
        parts->children.push_back(shared(*from.children[i], lease));
        parts->pointers.push_back(parts->children.back().get());
    }
    if (from.dictionary) parts->dictionary = shared(*from.dictionary, lease);
    Owned<Structure> made(new Structure(from));
    made->children = parts->pointers.data();
    made->dictionary = parts->dictionary.get();
    made->release = [](Structure* self) {
        self->release = nullptr;
        delete static_cast<Shared<Structure>*>(self->private_data);
    };
    made->private_data = parts.release();
    return made;
}

struct Reading {
    LeaseRef lease;
    const Batches* batches;
    std::size_t next = 0;
};

Reading& reading(ArrowArrayStream* stream) noexcept { return *static_cast<Reading*>(stream->private_data); }

// Consumers call without a thread state, and no exception may pass.
template <class Structure>
int give(const Structure& from, Lease* lease, Structure* to) noexcept {
    try {
        Owned<Structure> made = shared(from, lease);
        *to = *made;
        made->release = nullptr;
        return 0;
    } catch (const std::bad_alloc&) {
        return ENOMEM;
    }
}

Owned<ArrowArrayStream> stream_over(LeaseRef lease, const Batches* batches) {
    auto state = std::make_unique<Reading>();
    state->lease = std::move(lease);
    state->batches = batches;
    Owned<ArrowArrayStream> stream(new ArrowArrayStream());
    stream->get_schema = [](ArrowArrayStream* self, ArrowSchema* to) {
        return give(*reading(self).batches->schema, reading(self).lease.get(), to);
    };
    stream->get_next = [](ArrowArrayStream* self, ArrowArray* to) {
        Reading& here = reading(self);
        if (here.next == here.batches->count) {
            *to = ArrowArray();
            return 0;
        }
        const int status = give(*here.batches->arrays[here.next], here.lease.get(), to);
        if (status == 0) ++here.next;
        return status;
    };
    stream->get_last_error = [](ArrowArrayStream*) -> const char* { return "out of memory"; };
    stream->release = [](ArrowArrayStream* self) {
        self->release = nullptr;
        delete static_cast<Reading*>(self->private_data);
    };
    stream->private_data = state.release();
    return stream;
}

}  // namespace

PyObject* arrow_batches(PyObject* module, PyObject* const* values, Py_ssize_t given) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        const Arguments<2> arguments("_arrow_batches", {"stream_or_schema", "array"}, 2, 1, values, given,
                                     nullptr);
        Ref self = batches_holding(state_of_module(module));
        Contents& contents = *contents_of(self.get());
        if (arguments[1]) {
            contents.schema = taken<ArrowSchema>(arguments[0]);
            contents.arrays.push_back(taken<ArrowArray>(arguments[1]));
            contents.describe();
            return self.release();
        }
        Owned<ArrowArrayStream> stream = taken<ArrowArrayStream>(arguments[0]);
        if (const int status = read_stream(*stream, contents)) {
            const char* const reason = stream->get_last_error(stream.get());
            PyErr_Format(PyExc_ValueError, "cannot read the Arrow stream of what is sent: %s (errno %d)",
                         reason ? reason : "no reason given", status);
            const ErrorScope errors;  // ends the stream, which may run Python code
            stream.reset();
            return nullptr;
        }
        return self.release();
    });
}

PyObject* arrow_values(PyObject* module, PyObject* batches) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        if (!Py_IS_TYPE(batches, state_of_module(module).arrow_batches_type)) {
            PyErr_SetString(PyExc_TypeError, "expected an ArrowBatches");
            return nullptr;
        }
        const Contents& contents = *contents_of(batches);
        Ref arrays = Ref::steal(PyList_New(0));
        if (!arrays) return nullptr;
        bool nulls = false;
        for (const Owned<ArrowArray>& array : contents.arrays) {
            nulls = nulls || has_nulls(*contents.schema, *array);
            Ref values = values_of(*array);
            if (PyList_Append(arrays.get(), values.get()) < 0) return nullptr;
        }
        return Py_BuildValue("sOO", contents.schema->dictionary ? "dictionary" : contents.schema->format,
                             arrays.get(), nulls ? Py_True : Py_False);
    });
}

PyObject* arrow_stream(PyObject* module, PyObject* memory) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        BufferScope buffer;
        if (!buffer.acquire(memory, PyBUF_SIMPLE)) return nullptr;
        Lease* const lease = ground_of(state_of_module(module), memory).lease;
        if (!lease || buffer->len != sizeof(Batches)) {
            PyErr_SetString(PyExc_TypeError, "expected the lent memory of an ArrowBatches");
            return nullptr;
        }
        return structure_capsule(
                   stream_over(LeaseRef::share(lease), static_cast<const Batches*>(buffer->buf)))
            .release();
    });
}

bool add_arrow_batches_type(PyObject* module, ModuleState& state) noexcept {
    state.arrow_batches_type =
        reinterpret_cast<PyTypeObject*>(PyType_FromModuleAndSpec(module, &batches_spec, nullptr));
    return state.arrow_batches_type && PyModule_AddType(module, state.arrow_batches_type) == 0;
}

}  // namespace memchannel
