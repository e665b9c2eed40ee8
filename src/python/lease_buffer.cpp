#include "lease_buffer.hpp"

#include "core/registry.hpp"
#include "numpy_abi.hpp"
#include "shared_buffer.hpp"
#include "lent_memory.hpp"

namespace memchannel {

namespace {

class PythonLease final : public OwnedLease {
   public:
    PythonLease(Owner& owner, const Py_buffer& buffer, const LendTerms& terms) noexcept
        : OwnedLease(owner, static_cast<std::size_t>(buffer.len), terms.channel, terms.deferred),
          buffer_(buffer) {}
    PythonLease(Owner& owner, PyObject* object, std::size_t nbytes, const LendTerms& terms) noexcept
        : OwnedLease(owner, nbytes, terms.channel, terms.deferred), object_(Py_NewRef(object)) {}

    void give_back() noexcept override {
        const ErrorScope errors;  // exporters' release functions may call Python
        if (object_) {
            Py_CLEAR(object_);
        } else {
            PyBuffer_Release(&buffer_);
        }
    }

    // Not on any account yet.
    void refuse() noexcept {
        give_back();
        delete this;
    }

   private:
    ~PythonLease() override = default;

    Py_buffer buffer_{};
    PyObject* object_ = nullptr;
};

LeaseRef account(PythonLease* lease) {
    if (registry().owners.lend(*lease)) return LeaseRef::adopt(lease);
    lease->refuse();
    PyErr_SetString(PyExc_RuntimeError, "cannot lend memory: this interpreter is ending");
    throw PythonError();
}

}  // namespace

LeaseRef lend_buffer(ModuleState& state, BufferScope& buffer, const LendTerms& terms) {
    Owner& owner = this_owner(state);
    auto* lease = new PythonLease(owner, *buffer, terms);
    buffer.release();
    return account(lease);
}

LeaseRef lend_object(ModuleState& state, PyObject* object, std::size_t nbytes, const LendTerms& terms) {
    return account(new PythonLease(this_owner(state), object, nbytes, terms));
}

LeaseRef existing_lease(ModuleState& state, PyObject* object) noexcept {
    const NumpyTable* numpy = state.numpy;
    while (object) {
        if (Lease* lease = lease_of(object)) return LeaseRef::share(lease);
        if (Block* block = shared_buffer_block(state, object)) return LeaseRef::share(block);
        if (PyObject_TypeCheck(object, &PyMemoryView_Type)) {
            object = PyMemoryView_GET_BASE(object);
        } else if (PyPickleBuffer_Check(object)) {
            const Py_buffer* buffer = PyPickleBuffer_GetBuffer(object);
            if (!buffer) PyErr_Clear();
            object = buffer ? buffer->obj : nullptr;
        } else if (numpy && numpy->is_array(object)) {
            object = borrowed_memory_of(object);
        } else {
            object = nullptr;
        }
    }
    return {};
}

}  // namespace memchannel
