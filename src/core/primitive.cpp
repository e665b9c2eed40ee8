#include "primitive.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include "registry.hpp"

namespace memchannel {

ThreadId this_thread() noexcept {
    struct Known {
        unsigned generation = 0;  // of the process: the thread that forked has another id in the child
        ThreadId id;
    };
    static thread_local Known known;
    static std::atomic<std::uint64_t> last{0};
    const unsigned generation = registry().generation;
    if (known.generation != generation) {
        known = {generation, {++last, static_cast<pid_t>(syscall(SYS_gettid))}};
    }
    return known.id;
}

Primitive::Primitive(PrimitiveKind kind)
    : id_(registry().primitives.next_id()), generation_(registry().generation), kind_(kind) {}

bool Primitive::of_this_process() const noexcept { return generation_ == registry().generation; }

void Primitive::last_drop() noexcept {
    if (!of_this_process())
        return;  // a parent's lock may be held for ever in its forked child: leave it all alone
    registry().primitives.remove(*this);
    delete this;
}

void publish(Primitive& made) { registry().primitives.add(made); }

void PrimitiveTable::end_interpreter(Owner& who) {
    who.stop_taking();  // before the walk: what it does not hold now it does not take any more
    for (const Handle<Primitive>& one : all()) one->end_interpreter(who.id());
}

}  // namespace memchannel
