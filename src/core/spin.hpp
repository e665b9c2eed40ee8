// How long a blocked call looks before it parks.
//
// A short spin hands a message over in a fraction of a microsecond when the other side runs on another core,
// and is pure loss when it does not. So: a credit per channel that grows with hits and falls faster with
// misses; at most one spinner on each core; none if the other side last ran on this very core; and
// never sched_yield(), which hands the core to strangers.
//
// Who has just woken a parked thread looks as long as a wake-up takes. Otherwise parking would be contagious:
// the answer of a thread that is on its way out of the kernel comes too late for a short spin, whoever parks
// instead has to be woken in turn, and two sides that could spin would park for ever.
#pragma once

#include <atomic>
#include <cstdint>

namespace memchannel {

class Spin {
   public:
    static constexpr std::int64_t longest_ns = 20'000;
    static constexpr std::int64_t longest_after_wake_ns = 100'000;

    // The side that will be waited for says where it runs.
    void touch() noexcept;
    // Whether a wait that begins now should spin; each wait asks once.
    bool worth_it() noexcept;
    // Runs ready() until it is true or the budget is used up. Call it detached, when it is worth it.
    template <class Ready>
    bool run(Ready ready) noexcept;
    // The same, if ready() is not true at once and it is worth it.
    template <class Ready>
    bool until(Ready ready) noexcept {
        return ready() || (worth_it() && run(ready));
    }
    // Whether a wait that was worth it ended soon, for who does not call run().
    void learn(bool hit) noexcept { credit_.learn(hit); }
    // A look of about a microsecond, less where pausing is short, for who is attached: to let go of a GIL and
    // take it again takes as long as a hand-over. Its own credit says when it is worth it.
    template <class Ready>
    bool glance(Ready ready) noexcept;

   private:
    class Credit {
       public:
        bool enough() noexcept;
        void learn(bool hit) noexcept;

       private:
        static constexpr int full = 8;
        static constexpr unsigned probe_every = 64;

        std::atomic<int> left_{full};  // relaxed: a heuristic, lost updates do no harm
        std::atomic<unsigned> waits_{0};
    };
    static constexpr int looks_of_a_glance = 48;

    bool other_side_is_here() const noexcept;

    Credit credit_;
    Credit glances_;
    std::atomic<int> last_cpu_{-1};
};

namespace detail {
inline constexpr int nowhere = -1;
int begin_spinning() noexcept;  // the spinner's place, or nowhere: one that began on this core still spins
void end_spinning(int place) noexcept;
void forget_spinners() noexcept;  // in a forked child: those of its parent's other threads do not exist
void note_wake() noexcept;        // this thread woke a parked one
bool take_wake() noexcept;        // whether it did, since it was asked last
std::int64_t spin_clock() noexcept;

inline void cpu_relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}
}  // namespace detail

template <class Ready>
bool Spin::run(Ready ready) noexcept {
    const int place = detail::begin_spinning();
    if (place == detail::nowhere) return false;
    const std::int64_t end =
        detail::spin_clock() + (detail::take_wake() ? longest_after_wake_ns : longest_ns);
    bool hit = false;
    do {
        for (int i = 0; i < 16 && !hit; ++i) {
            detail::cpu_relax();
            hit = ready();
        }
    } while (!hit && detail::spin_clock() < end);
    detail::end_spinning(place);
    learn(hit);
    return hit;
}

template <class Ready>
bool Spin::glance(Ready ready) noexcept {
    if (other_side_is_here() || !glances_.enough()) return false;
    bool hit = false;
    for (int i = 0; i < looks_of_a_glance && !hit; ++i) {
        detail::cpu_relax();
        hit = ready();
    }
    glances_.learn(hit);
    return hit;
}

}  // namespace memchannel
