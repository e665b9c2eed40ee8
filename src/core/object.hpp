// Counted core objects: destroyable on any thread, in any interpreter.
#pragma once

#include <atomic>
#include <utility>

namespace memchannel {

class Object {
   public:
    Object(const Object&) = delete;
    Object& operator=(const Object&) = delete;

    void retain() noexcept { refs_.fetch_add(1, std::memory_order_relaxed); }
    void drop() noexcept {
        if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) last_drop();
    }
    // For look-ups through a weak table: fails once the count has reached zero.
    bool try_retain() noexcept {
        long count = refs_.load(std::memory_order_relaxed);
        while (count > 0) {
            if (refs_.compare_exchange_weak(count, count + 1, std::memory_order_acq_rel)) return true;
        }
        return false;
    }
    long references() const noexcept { return refs_.load(std::memory_order_acquire); }

   protected:
    Object() noexcept = default;
    virtual ~Object() = default;
    virtual void last_drop() noexcept { delete this; }

   private:
    std::atomic<long> refs_{1};
};

// Owns one count of a T with retain() and drop().
template <class T>
class Handle {
   public:
    Handle() noexcept = default;
    static Handle adopt(T* object) noexcept { return Handle(object); }
    static Handle share(T* object) noexcept {
        if (object) object->retain();
        return Handle(object);
    }
    Handle(const Handle& other) noexcept : object_(other.object_) {
        if (object_) object_->retain();
    }
    Handle(Handle&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
    template <class U>
    Handle(Handle<U>&& other) noexcept : object_(other.release()) {}
    Handle& operator=(Handle other) noexcept {
        std::swap(object_, other.object_);
        return *this;
    }
    ~Handle() {
        if (object_) object_->drop();
    }

    T* get() const noexcept { return object_; }
    T* operator->() const noexcept { return object_; }
    T& operator*() const noexcept { return *object_; }
    explicit operator bool() const noexcept { return object_ != nullptr; }
    T* release() noexcept { return std::exchange(object_, nullptr); }
    void reset() noexcept { *this = Handle(); }

   private:
    explicit Handle(T* object) noexcept : object_(object) {}
    T* object_ = nullptr;
};

}  // namespace memchannel
