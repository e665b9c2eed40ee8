// select(): Go's select over receives and sends.
#include <random>
#include <vector>

#include "channel_types.hpp"
#include "codecs.hpp"
#include "core/select.hpp"
#include "end.hpp"
#include "share.hpp"
#include "transfer.hpp"

namespace memchannel {

namespace {

struct Cases {
    std::vector<Select::Case> cases;
    std::vector<Ref> ends;
    std::vector<Tickets> tickets;
};

std::uint64_t fresh_seed() noexcept {
    // One generator per thread: fairness needs spread, not secrecy.
    static thread_local std::minstd_rand random(static_cast<unsigned>(monotonic_ns()));
    return static_cast<std::uint64_t>(random()) << 31 ^ random();
}

void add_case(ModuleState& state, Cases& cases, PyObject* item) {
    PyObject* target = item;
    PyObject* object = nullptr;
    if (PyTuple_Check(item) && PyTuple_GET_SIZE(item) == 2) {
        target = PyTuple_GET_ITEM(item, 0);
        object = PyTuple_GET_ITEM(item, 1);
    }
    const EndRef end = end_of(target);
    const Side side = object ? Side::send : Side::recv;
    if (!end || !(static_cast<int>(end.side) & static_cast<int>(side))) {
        PyErr_Format(PyExc_TypeError, "select() takes receiving ends and (sending end, object) pairs, not %R",
                     item);
        throw PythonError();
    }
    if (!check_process(*end.channel)) throw PythonError();
    Message message;
    Tickets tickets;
    if (object) {
        LendTerms terms = terms_of(*end.channel);
        terms.tickets = &tickets;
        message = encode(state, codec_of(*end.channel), object, terms);
    }
    cases.cases.push_back({Handle<Channel>::share(end.channel), side, std::move(message)});
    cases.ends.push_back(Ref::borrow(target));
    cases.tickets.push_back(std::move(tickets));
}

// Outcome of a select that was decided.
struct Decided {
    Ref end;
    Channel* channel = nullptr;  // the end's
    Side side = Side::recv;
    Status status = Status::empty;
    Message message;
};

// Of receives only: one of those that have a message, without locks on the others and without making cases of
// them. False: there is none, or something is not as it should be; nothing was done then.
bool receive_ready(PyObject* const* values, Py_ssize_t given, Decided& decided) {
    Channel* ready = nullptr;
    Py_ssize_t chosen = 0;
    std::uint32_t count = 0;
    for (Py_ssize_t i = 0; i < given; ++i) {
        const EndRef end = end_of(values[i]);
        if (!end || !(static_cast<int>(end.side) & static_cast<int>(Side::recv))) return false;
        if (!end.channel->may_have_message()) continue;
        // Each of them with the same chance (Vitter 1985, Random sampling with a reservoir, algorithm R).
        ++count;
        if (count > 1 && fresh_seed() % count != 0) continue;
        ready = end.channel;
        chosen = i;
    }
    if (!ready || !ready->of_this_process()) return false;
    decided.status = ready->try_recv(current_interpreter(), decided.message);
    if (!Select::decided(decided.status)) return false;
    decided.end = Ref::borrow(values[chosen]);
    decided.channel = ready;
    return true;
}

PyObject* answer(ModuleState& state, Ref pair, Decided decided) {
    if (decided.status != Status::ok) {
        raise_status(state, decided.status, *decided.channel, decided.side);
        return nullptr;
    }
    PyTuple_SET_ITEM(pair.get(), 0, decided.end.release());
    Ref value = decided.side == Side::recv ? deliver(state, *decided.channel, std::move(decided.message), {})
                                           : Ref::borrow(Py_None);
    PyTuple_SET_ITEM(pair.get(), 1, value.release());
    return pair.release();
}

Status run(Select& select, const Deadline deadline, bool nowait, std::uint32_t& chosen) {
    Status status = select.try_now(chosen);
    if (status != Status::empty) return status;
    for (;;) {
        status = select.enlist(chosen);
        if (status == Status::parked && nowait) {
            // Standing in all lines at once, however short, makes it one look: cases that were tried one
            // after the other may each have been ready at another time (Go's TestNonblockSelectRace).
            status = select.finish(chosen);
        } else if (status == Status::parked) {
            select.waiter().limit(deadline);
            status = wait_settled(select.waiter(), deadline, nullptr);
            if (status == Status::interrupted) {
                const bool sent = select.give_up(chosen);
                return sent && postpone_interrupt() ? Status::ok : status;
            }
            status = select.finish(chosen);
        }
        if (status != Status::retry) return status;
        select.begin_again();
    }
}

}  // namespace

PyObject* select_function(PyObject* module, PyObject* const* values, Py_ssize_t given, PyObject* keywords) {
    ModuleState& state = state_of_module(module);
    return guarded<PyObject*>(nullptr, [&]() -> PyObject* {
        PyObject* timeout = nullptr;
        for (Py_ssize_t i = 0; keywords && i < PyTuple_GET_SIZE(keywords); ++i) {
            if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(keywords, i), "timeout") != 0) {
                PyErr_Format(PyExc_TypeError, "select() got an unexpected keyword argument '%U'",
                             PyTuple_GET_ITEM(keywords, i));
                return nullptr;
            }
            timeout = values[given + i];
        }
        if (given == 0) {
            PyErr_SetString(PyExc_ValueError,
                            "select() of nothing would wait for ever: give it at least one end");
            return nullptr;
        }
        Deadline deadline = Deadline::never();
        bool nowait;
        if (!parse_timeout(timeout, deadline, nowait)) return nullptr;
        Ref pair = Ref::steal(PyTuple_New(2));  // now: once a message was received, nothing fails
        if (!pair) return nullptr;
        Decided decided;
        if (receive_ready(values, given, decided)) {
            return answer(state, std::move(pair), std::move(decided));
        }
        Cases cases;
        const auto count = static_cast<std::size_t>(given);
        cases.cases.reserve(count);
        cases.ends.reserve(count);
        cases.tickets.reserve(count);
        for (Py_ssize_t i = 0; i < given; ++i) add_case(state, cases, values[i]);
        Select select(current_interpreter(), cases.cases, fresh_seed());
        std::uint32_t chosen = 0;
        const Status status = run(select, deadline, nowait, chosen);
        if (status == Status::interrupted) return nullptr;
        if (status == Status::timeout) {
            PyErr_SetString(PyExc_TimeoutError, "select() timed out");
            return nullptr;
        }
        if (status == Status::ending) {
            raise_ending("select()");
            return nullptr;
        }
        Select::Case& one = cases.cases[chosen];
        if (status == Status::ok) cases.tickets[chosen].sent();
        return answer(
            state, std::move(pair),
            {std::move(cases.ends[chosen]), one.channel.get(), one.side, status, std::move(one.message)});
    });
}

}  // namespace memchannel
