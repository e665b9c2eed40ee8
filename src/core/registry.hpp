// What all interpreters of the process share. The only global of the core.
#pragma once

#include <atomic>
#include <cstddef>

#include "blas_threads.hpp"
#include "callbacks.hpp"
#include "channel_table.hpp"
#include "descriptor.hpp"
#include "interrupt.hpp"
#include "notes.hpp"
#include "owner.hpp"
#include "primitive.hpp"
#include "trace.hpp"
#include "waiter.hpp"

namespace memchannel {

struct Registry {
    Registry(Host& host, unsigned fork_generation);

    OwnerTable owners;
    WaiterList waiters;
    ChannelTable channels;
    PrimitiveTable primitives;
    DescriptorTable descriptors;
    Spin completion_spin;  // one for all: each completion is awaited once
    InterruptTable interrupts;
    CallbackTable callbacks;
    BlasThreads blas_threads;
    Recorder recorder;
    Notes notes;
    std::atomic<std::size_t> bytes_copied{0};
    const std::uint64_t process_token;  // random: tells this process from all others
    const unsigned generation;          // rises with each fork: what a parent made is inert in its child
};

// Makes the registry, once per process, and a fresh one in every forked child. Never freed: threads that
// CPython leaves hanging at exit may still be inside.
void start_registry(Host& host);
bool registry_started() noexcept;
Registry& registry() noexcept;

}  // namespace memchannel
