#include "errors.hpp"

#include <cstdarg>

#include "wait.hpp"

namespace memchannel {

namespace {

unsigned long long number(const Channel& channel) noexcept {
    return static_cast<unsigned long long>(channel.id());
}

const char* verb(Side side) noexcept { return side == Side::recv ? "receiving" : "sending"; }

void raise_poisoned(ModuleState& state, const Channel& channel) noexcept {
    const std::vector<std::byte> reason = channel.poison_reason();
    Ref maker = attribute(state.errors, "poisoned_error");
    Ref error = maker ? Ref::steal(PyObject_CallFunction(maker.get(), "Ky#", number(channel), reason.data(),
                                                         static_cast<Py_ssize_t>(reason.size())))
                      : Ref();
    if (error) PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.get())), error.get());
}

// Says at the exception that is set which channel it is about: after a select() nothing else does.
void name_channel(const Channel& channel) noexcept {
    if (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_MemoryError)) return;
    const Ref error = Ref::steal(PyErr_GetRaisedException());
    const Ref name = Ref::steal(PyUnicode_InternFromString("channel"));
    const Ref id = name ? Ref::steal(PyLong_FromUnsignedLongLong(number(channel))) : Ref();
    if (!id || PyObject_SetAttr(error.get(), name.get(), id.get()) < 0) return;
    PyErr_SetRaisedException(Py_NewRef(error.get()));
}

}  // namespace

void raise_named(ModuleState& state, const char* name, const char* format, ...) noexcept {
    Ref type = attribute(state.errors, name);
    if (!type) return;
    std::va_list arguments;
    va_start(arguments, format);
    PyErr_FormatV(type.get(), format, arguments);
    va_end(arguments);
}

void raise_status(ModuleState& state, Status status, const Channel& channel, Side side) noexcept {
    const unsigned long long id = number(channel);
    switch (status) {
        case Status::timeout:
            PyErr_Format(PyExc_TimeoutError, "%s on channel %llu timed out", verb(side), id);
            return;
        case Status::closed:
            if (channel.closed_by(side, current_interpreter())) {
                raise_named(state, "ClosedChannelError",
                            "the %s end of channel %llu is closed in this interpreter; open a new channel",
                            verb(side), id);
            } else {
                raise_named(state, "ClosedChannelError",
                            "the %s side of channel %llu is over: everybody left it; open a new channel",
                            verb(side), id);
            }
            name_channel(channel);
            return;
        case Status::ended:
            raise_named(state, "EndOfChannel", "channel %llu has ended: every sender left and it is drained",
                        id);
            name_channel(channel);
            return;
        case Status::broken:
            raise_named(state, "BrokenChannelError", "channel %llu has no receivers any more", id);
            name_channel(channel);
            return;
        case Status::poisoned:
            raise_poisoned(state, channel);
            name_channel(channel);
            return;
        case Status::ending:
            raise_ending("%s on channel %llu", verb(side), id);
            return;
        case Status::misused:
            PyErr_Format(
                PyExc_ValueError,
                side == Side::recv
                    ? "channel %llu is a broadcast channel: receive from an end made by its broadcast()"
                    : "channel %llu is a broadcast channel: a writable block has one receiver only",
                id);
            return;
        default:
            PyErr_Format(PyExc_SystemError, "unexpected outcome %d on channel %llu", static_cast<int>(status),
                         id);
    }
}

bool check_process(const Channel& channel) noexcept {
    if (channel.of_this_process()) return true;
    PyErr_Format(
        PyExc_RuntimeError,
        "channel %llu belongs to the parent process: channels do not survive os.fork(); make a new one",
        number(channel));
    return false;
}

void warn_unreleased(PyObject* view) noexcept {
    const ErrorScope errors;
    if (PyErr_ResourceWarning(view, 1, "unreleased %R", view) == 0) return;
    if (PyErr_ExceptionMatches(PyExc_Warning)) {
        PyErr_WriteUnraisable(view);
    } else {
        PyErr_Clear();
    }
}

}  // namespace memchannel
