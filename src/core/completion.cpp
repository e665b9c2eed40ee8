#include "completion.hpp"

#include "registry.hpp"

namespace memchannel {

Completion::Completion() noexcept : generation_(registry().generation) {}

Handle<Completion> Completion::make() { return Handle<Completion>::adopt(new Completion()); }

bool Completion::of_this_process() const noexcept { return generation_ == registry().generation; }

bool Completion::start() noexcept {
    std::lock_guard lock(mutex_);
    if (state() != State::pending) return false;
    state_.store(State::running, std::memory_order_release);
    return true;
}

void Completion::finish(Message result, bool succeeded) noexcept {
    registry().completion_spin.touch();
    settle(succeeded ? State::succeeded : State::failed, std::move(result));
}

bool Completion::cancel() noexcept {
    {
        std::lock_guard lock(mutex_);
        if (state() == State::cancelled) return true;
        if (state() != State::pending) return false;
    }
    return settle(State::cancelled, {}) || state() == State::cancelled;
}

bool Completion::settle(State state, Message result) noexcept {
    Handle<Channel> channel;
    Message note;
    OwnerId subscriber;
    {
        std::lock_guard lock(mutex_);
        if (done() || (state == State::cancelled && this->state() != State::pending)) return false;
        result_ = std::move(result);
        state_.store(state, std::memory_order_release);
        waiters_.settle_all(Status::ok);
        channel = std::move(subscription_);
        note = std::move(note_);
        subscriber = subscriber_;
    }
    if (channel) channel->try_send(subscriber, note);
    return true;
}

Status Completion::await(Entry& entry) noexcept {
    std::lock_guard lock(mutex_);
    if (done()) return Status::ok;
    waiters_.push_back(entry);
    return Status::parked;
}

Status Completion::await_dropped(Entry& entry) noexcept {
    std::lock_guard lock(mutex_);
    if (runners_ == 0) return Status::ok;
    drop_waiters_.push_back(entry);
    return Status::parked;
}

bool Completion::dropped() const noexcept {
    std::lock_guard lock(mutex_);
    return runners_ == 0;
}

void Completion::withdraw(Entry& entry) noexcept {
    std::lock_guard lock(mutex_);
    if (entry.queue) entry.queue->remove(entry);
}

Message Completion::result() const {
    std::lock_guard lock(mutex_);
    return result_ ? result_.clone() : Message();
}

void Completion::forget_result() noexcept {
    Message forgotten;
    std::lock_guard lock(mutex_);
    forgotten = std::move(result_);
}

void Completion::subscribe(Handle<Channel> channel, OwnerId subscriber, Message note) {
    {
        std::lock_guard lock(mutex_);
        if (!done()) {
            subscription_ = std::move(channel);
            subscriber_ = subscriber;
            note_ = std::move(note);
            return;
        }
    }
    channel->try_send(subscriber, note);
}

void Completion::packed(Side) noexcept {
    std::lock_guard lock(mutex_);
    ++runners_;
}

void Completion::unpacked(Side) noexcept {
    if (!of_this_process()) return;
    {
        std::lock_guard lock(mutex_);
        if (--runners_ > 0) return;
        drop_waiters_.settle_all(Status::ok);
        if (done()) return;
    }
    settle(State::broken, {});
}

}  // namespace memchannel
