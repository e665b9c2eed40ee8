// The references that the core holds on interpreters, and who drops the last of them when.
#include <algorithm>
#include <chrono>

#include "owner.hpp"

namespace memchannel {

namespace {

// How long the reaper heeds NoDrops at a time: CPython may have stopped the thread for good that has it.
constexpr auto longest_no_drops = std::chrono::seconds(1);
// How long who lets go of the last handle waits for the end, which goes on without it.
constexpr auto longest_end = std::chrono::seconds(1);

}  // namespace

bool OwnerTable::droppable(const Owner& owner) const noexcept {
    return owner.held_ && owner.leases_ == 0 && owner.handles_ == 0 && !owner.ending_ && switchable(owner);
}

// The host ends no interpreter while it is held.
void OwnerTable::hold(Owner& owner) noexcept {
    if (owner.held_ || owner.ending_) return;
    owner.held_ = true;
    host_.hold(owner);
}

bool OwnerTable::add_handle(OwnerId id) noexcept {
    const Lock lock(mutex_);
    Owner* const owner = locate(id);
    if (!owner || owner->ending_ || !switchable(*owner)) return false;
    ++owner->handles_;
    hold(*owner);
    return true;
}

void OwnerTable::drop_handle(OwnerId id, bool wait) noexcept {
    Lock lock(mutex_);
    Owner* const owner = locate(id);
    if (!owner || owner->handles_ == 0) return;
    --owner->handles_;
    if (!droppable(*owner)) return;
    queue_for_reaper(*owner);
    if (!wait || !reaper_running_ || no_drops_ > 0 || std::this_thread::get_id() == reaper_) return;
    lock.unlock();
    void* const token = host_.detach();  // the end may need this interpreter's GIL
    lock.lock();
    drained_.wait_for(lock, longest_end, [&] {
        const bool dropped = !owner->held_ && owner->ender_ == std::thread::id();
        return dropped || stopping_ || (owner->held_ && !droppable(*owner));
    });
    lock.unlock();
    host_.reattach(token);
}

void OwnerTable::begin_end(Owner& owner) noexcept {
    const Lock lock(mutex_);
    owner.ending_ = true;
    drained_.notify_all();
}

bool OwnerTable::is_ending(OwnerId id) const noexcept {
    const Lock lock(mutex_);
    return std::any_of(owners_.begin(), owners_.end(), [id](const Owner* owner) {
        return owner->id() == id && (owner->ending_ || owner->state_ != Owner::State::open);
    });
}

OwnerTable::NoDrops::NoDrops(OwnerTable& table) noexcept : table_(table) {
    Lock lock(table_.mutex_);
    ++table_.no_drops_;
    // A drop under way either was not the last or begins an end: both show soon.
    table_.drained_.wait(lock, [this] {
        return std::all_of(table_.owners_.begin(), table_.owners_.end(), [](const Owner* owner) {
            return owner->ender_ == std::thread::id() || owner->ender_ == std::this_thread::get_id() ||
                   owner->ending_;
        });
    });
}

OwnerTable::NoDrops::~NoDrops() {
    const Lock lock(table_.mutex_);
    --table_.no_drops_;
    table_.drained_.notify_all();
}

void OwnerTable::reap_reference(Lock& lock, Owner& owner) noexcept {
    // Here and nowhere else: the drop may run the whole end of the interpreter, which needs a thread that has
    // no thread state below it.
    drained_.wait_for(lock, longest_no_drops, [this] { return no_drops_ == 0 || stopping_; });
    if (!droppable(owner)) return;
    owner.held_ = false;
    ++owner.in_flight_;
    owner.ender_ = std::this_thread::get_id();
    lock.unlock();
    host_.drop(owner);
    lock.lock();
    --owner.in_flight_;
    owner.ender_ = {};
    drained_.notify_all();
}

}  // namespace memchannel
