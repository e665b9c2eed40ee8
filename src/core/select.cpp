#include "select.hpp"

#include <numeric>

namespace memchannel {

namespace {

constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();

// xorshift64 (Marsaglia 2003): fairness among ready cases needs spread, not secrecy.
std::uint64_t next_random(std::uint64_t& state) noexcept {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

}  // namespace

Select::Select(OwnerId who, std::span<Case> cases, std::uint64_t seed)
    : who_(who), cases_(cases), waiter_(who, "select", 0), order_(cases.size()), random_(seed | 1) {
    std::iota(order_.begin(), order_.end(), 0);
}

void Select::prepare() {
    targets_.reserve(cases_.size());
    for (std::uint32_t i = 0; i < cases_.size(); ++i) {
        RecvEntry& recv = recv_entries_.emplace_back();
        SendEntry& send = send_entries_.emplace_back();
        Entry& entry = cases_[i].side == Side::recv ? static_cast<Entry&>(recv) : send;
        entry.waiter = &waiter_;
        entry.index = i;
        targets_.push_back({cases_[i].channel->id(), cases_[i].side});
    }
    waiter_.aim(targets_);
    prepared_ = true;
}

Select::~Select() { withdraw_all_but(none); }

// The next of a random order, when so many were drawn: Fisher and Yates' shuffle, as far as it is needed.
std::uint32_t Select::draw_case(std::size_t drawn) noexcept {
    const std::size_t other = drawn + next_random(random_) % (order_.size() - drawn);
    std::swap(order_[drawn], order_[other]);
    return order_[drawn];
}

Status Select::try_now(std::uint32_t& chosen) {
    for (std::size_t k = 0; k < cases_.size(); ++k) {
        const std::uint32_t i = draw_case(k);
        Case& one = cases_[i];
        const Status status = one.side == Side::recv ? one.channel->try_recv(who_, one.message)
                                                     : one.channel->try_send(who_, one.message);
        if (decided(status)) {
            chosen = i;
            return status;
        }
    }
    return Status::empty;
}

Status Select::enlist(std::uint32_t& chosen) {
    if (!prepared_) prepare();
    for (std::size_t k = 0; k < cases_.size() && !waiter_.settled(); ++k) {
        const std::uint32_t i = draw_case(k);
        Case& one = cases_[i];
        Status status;
        if (one.side == Side::recv) {
            status = one.channel->enlist_recv(recv_entries_[i], one.message);
        } else {
            send_entries_[i].message = std::move(one.message);
            status = one.channel->enlist_send(send_entries_[i]);
            if (status != Status::parked && status != Status::ok)
                one.message = std::move(send_entries_[i].message);
        }
        if (status != Status::parked) {
            withdraw_all_but(i);
            chosen = i;
            return status;
        }
    }
    return Status::parked;
}

Status Select::finish(std::uint32_t& chosen) noexcept {
    waiter_.settle(Status::timeout, none);  // or somebody was quicker
    const Settlement settlement = waiter_.settlement();
    chosen = settlement.index;
    if (settlement.status == Status::timeout || settlement.status == Status::ending) {
        withdraw_all_but(none);
        return settlement.status;
    }
    Case& one = cases_[chosen];
    Status status;
    if (one.side == Side::recv) {
        status = one.channel->finish_recv(recv_entries_[chosen], one.message);
    } else {
        status = one.channel->finish_send(send_entries_[chosen]);
        if (status != Status::ok) one.message = std::move(send_entries_[chosen].message);
    }
    withdraw_all_but(chosen);
    return status;
}

bool Select::give_up(std::uint32_t& chosen) noexcept {
    waiter_.settle(Status::timeout, none);
    const Settlement settlement = waiter_.settlement();
    const bool sent = settlement.status == Status::ok && cases_[settlement.index].side == Side::send;
    chosen = settlement.index;
    withdraw_all_but(none);
    return sent;
}

void Select::withdraw_all_but(std::uint32_t index) noexcept {
    if (!prepared_) return;  // it stands in no queue
    for (std::uint32_t i = 0; i < cases_.size(); ++i) {
        if (i == index) continue;
        Case& one = cases_[i];
        if (one.side == Side::recv) {
            one.channel->withdraw(recv_entries_[i]);
        } else {
            one.channel->withdraw(send_entries_[i]);
            if (send_entries_[i].message) one.message = std::move(send_entries_[i].message);
        }
    }
}

}  // namespace memchannel
