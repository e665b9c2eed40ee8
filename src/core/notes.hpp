// What one interpreter has found out and the others need not find out again: texts by name, kept until the
// process ends.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

namespace memchannel {

class Notes {
   public:
    using Text = std::shared_ptr<const std::string>;

    // The first text of a name stays. Throws std::bad_alloc.
    void add(std::string name, std::string text) {
        auto made = std::make_shared<const std::string>(std::move(text));
        const std::lock_guard lock(mutex_);
        notes_.try_emplace(std::move(name), std::move(made));
    }
    // Empty: nobody has added one.
    Text find(const std::string& name) const {
        const std::lock_guard lock(mutex_);
        const auto found = notes_.find(name);
        return found == notes_.end() ? Text() : found->second;
    }

   private:
    mutable std::mutex mutex_;
    std::unordered_map<std::string, Text> notes_;  // mutex_
};

}  // namespace memchannel
