// The references that the core holds on interpreters, and who drops the last of them when.
#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <utility>
#include <vector>

#include "owner.hpp"

namespace memchannel {

namespace {

// It ends with the process.
constexpr OwnerId main_interpreter = 0;
// How long NoDrops is heeded at a time: CPython may have stopped the thread for good that has it.
constexpr auto longest_no_drops = std::chrono::seconds(5);
// A drop that lasts longer ends the interpreter, or is taken for one that does.
constexpr auto longest_drop = std::chrono::milliseconds(100);
// How long who lets go of the last handle waits for the end, which goes on without it.
constexpr auto longest_end = std::chrono::seconds(1);

}  // namespace

bool OwnerTable::droppable(const Owner& owner) const noexcept {
    return owner.held_ && owner.leases_ == 0 && owner.handles_ == 0 && !owner.ending_ && switchable(owner);
}

// The host ends no interpreter while it is held.
void OwnerTable::hold(Owner& owner) noexcept {
    if (owner.held_ || owner.ending_ || owner.id() == main_interpreter) return;
    owner.held_ = true;
    host_.hold(owner);
}

bool OwnerTable::add_handle(OwnerId id) noexcept {
    const Lock lock(mutex_);
    Owner* const owner = locate(id);
    if (!owner) {
        for (auto& [early, count] : early_handles_) {
            if (early == id) return ++count;
        }
        try {
            early_handles_.emplace_back(id, 1);
        } catch (const std::bad_alloc&) {
            return false;
        }
        return true;
    }
    if (owner->ending_ || !switchable(*owner)) return false;
    ++owner->handles_;
    hold(*owner);
    return true;
}

void OwnerTable::take_early_handles(Owner& owner) noexcept {
    std::erase_if(early_handles_, [&](const auto& early) {
        if (early.first != owner.id()) return false;
        owner.handles_ = early.second;
        hold(owner);
        return true;
    });
}

void OwnerTable::drop_handle(OwnerId id, bool wait) noexcept {
    Lock lock(mutex_);
    Owner* const owner = locate(id);
    if (!owner) {
        std::erase_if(early_handles_, [id](auto& early) { return early.first == id && --early.second == 0; });
        return;
    }
    if (owner->handles_ == 0) return;
    --owner->handles_;
    if (!droppable(*owner)) return;
    queue_drop(*owner);
    if (!wait || !dropper_running_ || no_drops_ > 0 || std::this_thread::get_id() == dropper_) return;
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
    const Owner* const owner = locate(id);
    if (!owner) return false;
    const bool dropped = owner->ender_ != std::thread::id() && owner->ender_ != std::this_thread::get_id();
    return owner->ending_ || owner->state_ != Owner::State::open || dropped;
}

bool OwnerTable::end_with_references(OwnerId id) noexcept {
    const Lock lock(mutex_);
    Owner* const owner = locate(id);
    if (!owner || owner->ending_ || owner->state_ != Owner::State::open) return false;
    host_.end_with_references(*owner);
    return true;
}

OwnerTable::Closing::Closing(OwnerTable& table, OwnerId id) noexcept : table_(table), id_(id) {
    const Lock lock(table_.mutex_);
    std::vector<OwnerId>& closing = table_.closing_;
    if (std::find(closing.begin(), closing.end(), id) != closing.end()) return;
    try {
        closing.push_back(id);
    } catch (const std::bad_alloc&) {
        return;
    }
    first_ = true;
}

OwnerTable::Closing::~Closing() {
    if (!first_) return;
    const Lock lock(table_.mutex_);
    std::erase(table_.closing_, id_);
}

OwnerTable::NoDrops::NoDrops(OwnerTable& table) noexcept : table_(table) {
    Lock lock(table_.mutex_);
    ++table_.no_drops_;
    // A drop under way either was not the last or begins an end, which shows once the interpreter's own
    // threads let it (Lib/threading.py, _shutdown: it runs the callbacks that were registered last first).
    table_.drained_.wait_for(lock, longest_drop, [this] {
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

void OwnerTable::queue_drop(Owner& owner) noexcept {
    if (!owner.drop_queued_) {
        owner.drop_queued_ = true;
        owner.drop_next_ = drops_;
        drops_ = &owner;
    }
    if (dropper_running_) return;
    dropper_running_ = true;
    if (!start(&OwnerTable::drop_queued)) dropper_running_ = false;
}

void OwnerTable::drop_queued() noexcept {
    pthread_setname_np(pthread_self(), "memchannel-drop");
    Lock lock(mutex_);
    dropper_ = std::this_thread::get_id();
    while (drops_ && !stopping_) {
        drained_.wait_for(lock, longest_no_drops, [this] { return no_drops_ == 0 || stopping_; });
        Owner& owner = *drops_;
        drops_ = std::exchange(owner.drop_next_, nullptr);
        owner.drop_queued_ = false;
        if (droppable(owner)) drop_reference(lock, owner);
    }
    dropper_ = {};
    dropper_running_ = false;
    drained_.notify_all();
}

void OwnerTable::drop_reference(Lock& lock, Owner& owner) noexcept {
    // Here and nowhere else: the drop may run the whole end of the interpreter, which needs a thread that has
    // no thread state below it.
    owner.held_ = false;
    ++owner.in_flight_;
    owner.ender_ = std::this_thread::get_id();
    lock.unlock();
    ++visit_depth_;
    host_.drop(owner);
    --visit_depth_;
    lock.lock();
    --owner.in_flight_;
    owner.ender_ = {};
    drained_.notify_all();
}

}  // namespace memchannel
