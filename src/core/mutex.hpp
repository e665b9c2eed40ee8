// A mutex for what is held for a few dozen instructions. Who finds it taken looks for a moment before it
// sleeps: a hand-over brings both sides to the same lock at the same time, and a sleep costs twenty of them.
#pragma once

#include <pthread.h>

namespace memchannel {

class BriefMutex {
   public:
    BriefMutex() noexcept = default;
    BriefMutex(const BriefMutex&) = delete;
    BriefMutex& operator=(const BriefMutex&) = delete;
    // None of them fails: the mutex is valid, neither recursive nor error-checking (POSIX).
    void lock() noexcept { pthread_mutex_lock(&mutex_); }
    bool try_lock() noexcept { return pthread_mutex_trylock(&mutex_) == 0; }
    void unlock() noexcept { pthread_mutex_unlock(&mutex_); }

   private:
#ifdef PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP  // glibc (nptl/pthread_mutex_lock.c); musl always looks first
    pthread_mutex_t mutex_ = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;
#else
    pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
#endif
};

}  // namespace memchannel
