// Lets one allocation of the calling thread fail, of Python's allocators or of C++'s operator new. Preloaded,
// so that its operator new is everybody's, and imported as the module `hook`; its functions allocate nothing.
#include <Python.h>

#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

thread_local long countdown = 0;  // 0: off
thread_local bool failed = false;
thread_local int pauses = 0;

bool fails() noexcept {
    if (countdown == 0 || pauses > 0) return false;
    if (--countdown != 0) return false;
    return failed = true;
}

void* allocate(std::size_t size, std::size_t alignment) noexcept {
    if (fails()) return nullptr;
    if (size == 0) size = 1;
    if (alignment <= alignof(std::max_align_t)) return std::malloc(size);
    return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

void* allocate_or_throw(std::size_t size, std::size_t alignment) {
    if (void* const memory = allocate(size, alignment)) return memory;
    throw std::bad_alloc();
}

// ---- Python's allocators, by domain

PyMemAllocatorEx real[3];

void* failing_malloc(void* domain, std::size_t size) {
    const auto& next = *static_cast<PyMemAllocatorEx*>(domain);
    return fails() ? nullptr : next.malloc(next.ctx, size);
}

void* failing_calloc(void* domain, std::size_t count, std::size_t size) {
    const auto& next = *static_cast<PyMemAllocatorEx*>(domain);
    return fails() ? nullptr : next.calloc(next.ctx, count, size);
}

void* failing_realloc(void* domain, void* memory, std::size_t size) {
    const auto& next = *static_cast<PyMemAllocatorEx*>(domain);
    return fails() ? nullptr : next.realloc(next.ctx, memory, size);
}

void plain_free(void* domain, void* memory) {
    const auto& next = *static_cast<PyMemAllocatorEx*>(domain);
    next.free(next.ctx, memory);
}

// arm(n): the nth allocation from now on fails, once; 0: none.
PyObject* arm(PyObject*, PyObject* number) {
    const long count = PyLong_AsLong(number);
    if (count == -1 && PyErr_Occurred()) return nullptr;
    failed = false;
    countdown = count;
    Py_RETURN_NONE;
}

// disarm(): whether an allocation has failed.
PyObject* disarm(PyObject*, PyObject*) {
    countdown = 0;
    if (failed) Py_RETURN_TRUE;
    Py_RETURN_FALSE;
}

// pause(True), pause(False): allocations in between are not counted.
PyObject* pause(PyObject*, PyObject* value) {
    pauses += value == Py_True ? 1 : -1;
    Py_RETURN_NONE;
}

PyMethodDef methods[] = {
    {"arm", arm, METH_O, nullptr},
    {"disarm", disarm, METH_NOARGS, nullptr},
    {"pause", pause, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "hook", nullptr, 0, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit_hook() {
    const PyMemAllocatorDomain domains[] = {PYMEM_DOMAIN_RAW, PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};
    for (int i = 0; i < 3; ++i) {
        PyMem_GetAllocator(domains[i], &real[i]);
        PyMemAllocatorEx failing = {&real[i], failing_malloc, failing_calloc, failing_realloc, plain_free};
        PyMem_SetAllocator(domains[i], &failing);
    }
    return PyModule_Create(&definition);
}

void* operator new(std::size_t size) { return allocate_or_throw(size, 0); }
void* operator new[](std::size_t size) { return allocate_or_throw(size, 0); }
void* operator new(std::size_t size, std::align_val_t alignment) {
    return allocate_or_throw(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
    return allocate_or_throw(size, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return allocate(size, 0); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return allocate(size, 0); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
