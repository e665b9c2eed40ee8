#include "blas_threads.hpp"

#include <algorithm>

namespace memchannel {

void BlasThreads::add(Get get, Set set) {
    const std::lock_guard lock(mutex_);
    const auto same = [set](const Library& library) { return library.set == set; };
    if (std::any_of(libraries_.begin(), libraries_.end(), same)) return;
    libraries_.push_back({get, set});
    apply(libraries_.back());
}

void BlasThreads::enter(BlasShare share) {
    const std::lock_guard lock(mutex_);
    ++running_[share];
    for (Library& library : libraries_) apply(library);
}

void BlasThreads::leave(BlasShare share) noexcept {
    const std::lock_guard lock(mutex_);
    const auto found = running_.find(share);
    if (found == running_.end()) return;
    if (--found->second == 0) running_.erase(found);
    for (Library& library : libraries_) apply(library);
}

void BlasThreads::apply(Library& library) noexcept {
    if (running_.empty()) {
        // Somebody else's change meanwhile is left alone.
        if (library.before != 0 && library.get() == library.now) library.set(library.before);
        library.before = library.asked = library.now = 0;
        return;
    }
    const BlasShare share = running_.begin()->first;
    const int before = library.before != 0 ? library.before : library.get();
    const int wanted = share.more_allowed ? share.threads : std::min(share.threads, before);
    if (wanted != library.asked) {
        library.set(wanted);
        library.asked = wanted;
        library.now = library.get();
    }
    library.before = before;
}

}  // namespace memchannel
