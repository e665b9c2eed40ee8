#include "association.hpp"

#include <algorithm>

namespace memchannel {

Association::Member* Association::find(OwnerId interpreter) noexcept {
    const auto same = [&](const Member& member) { return member.interpreter == interpreter; };
    const auto found = std::find_if(members_.begin(), members_.end(), same);
    return found == members_.end() ? nullptr : &*found;
}

const Association::Member* Association::find(OwnerId interpreter) const noexcept {
    return const_cast<Association*>(this)->find(interpreter);
}

bool Association::join(OwnerId interpreter) {
    if (const Member* member = find(interpreter)) return !member->closed;
    if (over_) return false;
    members_.push_back({interpreter, false});
    ++associated_;
    newest_ = interpreter;
    return true;
}

bool Association::is_member(OwnerId interpreter) const noexcept {
    const Member* member = find(interpreter);
    return member && !member->closed;
}

bool Association::closed_by(OwnerId interpreter) const noexcept {
    const Member* member = find(interpreter);
    return member && member->closed;
}

bool Association::close(OwnerId interpreter) {
    bool was_associated = false;
    if (interpreter == newest_) newest_ = nobody;
    if (Member* member = find(interpreter)) {
        was_associated = !member->closed;
        if (was_associated) --associated_;
        member->closed = true;
    } else {
        members_.push_back({interpreter, true});
    }
    left_ = true;
    decide();
    return was_associated;
}

void Association::end(OwnerId interpreter) noexcept {
    Member* member = find(interpreter);
    if (!member) return;
    if (interpreter == newest_) newest_ = nobody;
    if (!member->closed) {
        --associated_;
        left_ = true;
    }
    *member = members_.back();
    members_.pop_back();
    decide();
}

void Association::unpacked() noexcept {
    --packed_;
    decide();
}

std::vector<OwnerId> Association::interpreters() const {
    std::vector<OwnerId> all;
    for (const Member& member : members_) {
        if (!member.closed) all.push_back(member.interpreter);
    }
    return all;
}

}  // namespace memchannel
