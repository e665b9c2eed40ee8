// Descriptors of files and sockets on their way, as the codec in Python handles them.
#pragma once

#include <vector>

#include "core/descriptor.hpp"
#include "state.hpp"

namespace memchannel {

// The descriptor behind an object, borrowed; nullptr for anything else.
Descriptor* descriptor_of(const ModuleState& state, PyObject* object) noexcept;
// The file or socket that it was made from; borrowed.
PyObject* file_of(PyObject* descriptor) noexcept;
// An object for the receiver: of the message's own descriptor if nobody else will receive it, so that the
// message keeps nothing open for as long as it lives (a task's: until the task is done); else of a further
// duplicate. Throws Undeliverable: the process has no descriptor left.
Ref received_descriptor(ModuleState& state, const Message& message, Descriptor& sent);

// The message with their descriptors was sent with move=True: closes them. What a close() raises goes to
// sys.unraisablehook, for the message is out; but an interrupt is thrown, as PythonError.
void close_moved(const std::vector<Ref>& moved);
// The same for those that nobody else refers to: of a result, when it was sent.
void close_forgotten(std::vector<Ref> moved);

bool add_descriptor_type(PyObject* module, ModuleState& state) noexcept;

}  // namespace memchannel
