#include "lease_buffer.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/registry.hpp"
#include "lendings.hpp"
#include "numpy_abi.hpp"
#include "parts.hpp"
#include "shared_buffer.hpp"
#include "view.hpp"

namespace memchannel {

namespace {

class PythonLease final : public OwnedLease {
   public:
    PythonLease(Owner& owner, PyObject* object, const Py_buffer& buffer, std::size_t nbytes,
                const LendTerms& terms) noexcept
        : OwnedLease(owner, nbytes, terms.channel, terms.deferred),
          buffer_(buffer),
          object_(Py_XNewRef(object)),
          ticket_(Py_XNewRef(terms.ticket)) {}

    void give_back() noexcept override {
        const ErrorScope errors;  // exporters' release functions may call Python
        Py_CLEAR(object_);
        PyBuffer_Release(&buffer_);  // nothing to do if there is none
        Py_CLEAR(ticket_);           // last: who is told of the return finds the buffer released
    }

    // Not on any account yet.
    void refuse() noexcept {
        give_back();
        delete this;
    }

   private:
    ~PythonLease() override = default;

    Py_buffer buffer_;
    PyObject* object_;
    PyObject* ticket_;
};

[[gnu::hot]] LeaseRef account(PythonLease* lease) {
    if (registry().owners.lend(*lease)) return LeaseRef::adopt(lease);
    lease->refuse();
    PyErr_SetString(PyExc_RuntimeError, "cannot lend memory: this interpreter is ending");
    throw PythonError();
}

// Whether memory that stands on this object can be anything but the heap's. Whose a ctypes object's, a
// capsule's or a library's is, they do not say.
bool may_be_mapped(const NumpyTable* numpy, PyObject* root) noexcept {
    if (PyBytes_Check(root) || PyByteArray_Check(root) || (numpy && numpy->is_array(root))) return false;
    return std::strcmp(Py_TYPE(root)->tp_name, "array.array") != 0;
}

// Whether a read of this byte would succeed. Asks the kernel, which answers EFAULT where the process itself
// would get SIGBUS (madvise(2), MADV_POPULATE_READ; write(2) on kernels before 5.14).
bool readable(const void* byte) noexcept {
    const auto page_size = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    const auto beyond = reinterpret_cast<std::uintptr_t>(byte) & (page_size - 1);
    char* const page = const_cast<char*>(static_cast<const char*>(byte)) - beyond;
#ifdef MADV_POPULATE_READ
    constexpr int populate_read = MADV_POPULATE_READ;
#else
    constexpr int populate_read = 22;
#endif
    if (madvise(page, page_size, populate_read) == 0) return true;
    if (errno == EFAULT) return false;
    int ends[2];
    if (pipe(ends) != 0) return true;  // cannot tell
    const bool faulted = write(ends[1], byte, 1) < 0 && errno == EFAULT;
    close(ends[0]);
    close(ends[1]);
    return !faulted;
}

Memory memory_of(PyObject* array) noexcept {
    const ArrayFields* const fields = array_fields(array);
    const Touched touched =
        touched_bytes(fields->nd, fields->dimensions, fields->strides, descr_fields(fields->descr)->elsize);
    return {array, fields->data + touched.low, touched.size()};
}

}  // namespace

[[gnu::hot]] Ground ground_of(ModuleState& state, PyObject* object) noexcept {
    const NumpyTable* numpy = state.numpy;
    Ground ground;
    if (PyByteArray_CheckExact(object) || PyBytes_CheckExact(object)) {  // what is sent most, arrays aside
        ground.anchor = ground.root = object;
        return ground;
    }
    while (object) {
        ground.root = object;
        if (numpy && numpy->is_array(object)) {
            ground.array = object;
            object = borrowed_memory_of(object);
            continue;
        }
        if (!ground.anchor) ground.anchor = object;
        if (Lease* lease = lease_of(object)) {
            ground.lease = lease;
            ground.content = content_of(object);
            break;
        }
        if (Block* block = shared_buffer_block(state, object)) {
            ground.lease = block;
            break;
        }
        if (PyObject_TypeCheck(object, &PyMemoryView_Type)) {
            object = base_of_view(object);
        } else if (PyPickleBuffer_Check(object)) {
            const Py_buffer* buffer = PyPickleBuffer_GetBuffer(object);
            if (!buffer) PyErr_Clear();
            object = buffer ? buffer->obj : nullptr;
        } else {
            break;
        }
    }
    return ground;
}

[[gnu::hot]] LeaseRef lend_buffer(ModuleState& state, BufferScope& buffer, const LendTerms& terms) {
    const auto nbytes = static_cast<std::size_t>(buffer->len);
    const Memory memory{nullptr, buffer->buf, nbytes};
    // What is not in one piece reaches further than its size says.
    const bool shareable = terms.lendings && !terms.ticket && PyBuffer_IsContiguous(&*buffer, 'A');
    Lendings* const lendings = shareable ? terms.lendings : nullptr;
    LeaseRef lease = lendings ? lendings->find(memory) : LeaseRef();
    if (lease) return lease;
    PyObject* const holder = buffer->obj;
    auto* const made = new PythonLease(this_owner(state), nullptr, *buffer, nbytes, terms);
    buffer.release();
    lease = account(made);
    if (lendings) lendings->add(memory, holder, lease);
    return lease;
}

LeaseRef lend_object(ModuleState& state, PyObject* object, std::size_t nbytes, const LendTerms& terms) {
    return account(new PythonLease(this_owner(state), object, {}, nbytes, terms));
}

LeaseRef lend_array(ModuleState& state, PyObject* array, const Ground& ground, std::size_t nbytes,
                    const LendTerms& terms) {
    Memory memory{};
    if (terms.lendings) {
        array = ground.array;
        memory = memory_of(array);
        nbytes = memory.nbytes;
        if (LeaseRef known = terms.lendings->find(memory)) return known;
    }
    // NumPy holds some bases without exporting their buffer (np.ndarray(buffer=), np.memmap): the export here
    // keeps a bytearray from being resized and an mmap from being closed.
    BufferScope pin;
    if (ground.anchor && PyObject_CheckBuffer(ground.anchor) && !pin.acquire(ground.anchor, PyBUF_FULL_RO)) {
        if (!PyErr_ExceptionMatches(PyExc_BufferError)) throw PythonError();  // released, closed
        PyErr_Clear();  // exports no buffer of this kind, so that NumPy holds it by other means
    }
    auto* const made = new PythonLease(this_owner(state), array, *pin, nbytes, terms);
    pin.release();
    LeaseRef lease = account(made);
    if (terms.lendings) terms.lendings->add(memory, array, lease);
    return lease;
}

[[gnu::hot]] void check_mapped(ModuleState& state, const Ground& ground, const void* first,
                               std::size_t nbytes) {
    if (ground.lease || !ground.root || nbytes == 0 || !may_be_mapped(state.numpy, ground.root)) return;
    const auto* const last = static_cast<const char*>(first) + (nbytes - 1);
    if (readable(last)) return;
    // Only the type: a repr may show elements.
    PyErr_Format(
        PyExc_ValueError,
        "cannot send memory of a mapped file (%.200s) that has been truncated: its last byte lies past "
        "the end of the file, reading it would end the process (SIGBUS); map the file again",
        Py_TYPE(ground.root)->tp_name);
    throw PythonError();
}

PyObject* check_copied(PyObject* module, PyObject* object) {
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        ModuleState& state = state_of_module(module);
        const NumpyTable* const numpy = loaded_numpy(state);
        const Ground ground = ground_of(state, object);
        if (numpy && numpy->is_array(object)) {
            const Memory memory = memory_of(object);
            check_mapped(state, ground, memory.data, memory.nbytes);
        } else {
            BufferScope buffer;
            if (!buffer.acquire(object, PyBUF_FULL_RO)) throw PythonError();
            check_mapped(state, ground, buffer->buf, static_cast<std::size_t>(buffer->len));
        }
        Py_RETURN_NONE;
    });
}

}  // namespace memchannel
