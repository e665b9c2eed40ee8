// Every object of one kind in the process, by id, without keeping it alive. An object adds itself once it is
// complete and removes itself before it goes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "object.hpp"

namespace memchannel {

template <class T>
class IdTable {
   public:
    std::uint64_t next_id() noexcept {
        std::lock_guard lock(mutex_);
        return ++last_id_;
    }
    void add(T& object) {
        std::lock_guard lock(mutex_);
        objects_.emplace(object.id(), &object);
    }
    void remove(T& object) noexcept {
        std::lock_guard lock(mutex_);
        objects_.erase(object.id());
    }
    Handle<T> find(std::uint64_t id) const {
        std::lock_guard lock(mutex_);
        const auto place = objects_.find(id);
        if (place == objects_.end() || !place->second->try_retain()) return {};
        return Handle<T>::adopt(place->second);
    }
    std::vector<Handle<T>> all() const {  // by id
        std::vector<Handle<T>> alive;
        {
            std::lock_guard lock(mutex_);
            alive.reserve(objects_.size());
            for (const auto& [id, object] : objects_) {
                if (object->try_retain()) alive.push_back(Handle<T>::adopt(object));
            }
        }
        std::ranges::sort(alive, {}, [](const Handle<T>& object) { return object->id(); });
        return alive;
    }
    std::size_t size() const noexcept {
        std::lock_guard lock(mutex_);
        return objects_.size();
    }

   protected:
    mutable std::mutex mutex_;

   private:
    std::unordered_map<std::uint64_t, T*> objects_;  // mutex_
    std::uint64_t last_id_ = 0;                      // mutex_
};

}  // namespace memchannel
