// Descriptors in messages: each duplicate is closed once, wherever the message ends.
#include "core/descriptor.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <thread>

#include "blocking.hpp"
#include "core/registry.hpp"

using namespace fake;

namespace {

// The ends of a pipe. That all writing ends are closed is what a reader can tell.
class Pipe {
   public:
    Pipe() { CHECK_EQ(pipe2(ends_.data(), O_CLOEXEC | O_NONBLOCK), 0); }
    Pipe(const Pipe&) = delete;
    Pipe& operator=(const Pipe&) = delete;
    ~Pipe() {
        close(ends_[0]);
        close_writer();
    }
    int reader() const noexcept { return ends_[0]; }
    int writer() const noexcept { return ends_[1]; }
    void close_writer() noexcept {
        if (ends_[1] >= 0) close(std::exchange(ends_[1], -1));
    }
    // Somebody can still write.
    bool open() const noexcept {
        char byte;
        return read(ends_[0], &byte, 1) < 0 && errno == EAGAIN;
    }

   private:
    std::array<int, 2> ends_{-1, -1};
};

Message with(Handle<Descriptor> descriptor) {
    Message message = numbered(1);
    message.add_rider(Handle<Transferable>(std::move(descriptor)), Side::recv);
    return message;
}

const Descriptor& in(const Message& message) {
    return static_cast<const Descriptor&>(message.riders()[0].object());
}

std::size_t on_their_way() { return registry().descriptors.size(); }

}  // namespace

TEST(the_last_message_closes_it) {
    host();
    Pipe pipe;
    Message message = with(Descriptor::duplicate(pipe.writer()));
    CHECK_EQ(on_their_way(), 1u);
    pipe.close_writer();
    Message copy = message.clone();
    Message shared = copy.share();
    CHECK_EQ(on_their_way(), 1u);
    message.reset();
    copy.reset();
    CHECK(pipe.open());
    shared.reset();
    CHECK(!pipe.open());
    CHECK_EQ(on_their_way(), 0u);
}

TEST(a_receiver_has_a_duplicate_of_its_own) {
    host();
    Pipe pipe;
    Message message = with(Descriptor::duplicate(pipe.writer()));
    pipe.close_writer();
    Handle<Descriptor> received = in(message).duplicate();
    message.reset();
    CHECK(pipe.open());
    const int fd = received->release();
    CHECK(fd >= 0);
    CHECK_EQ(received->release(), -1);
    CHECK_EQ(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    received.reset();
    CHECK(pipe.open());
    CHECK_EQ(write(fd, "x", 1), 1);
    close(fd);
    CHECK_EQ(on_their_way(), 0u);
}

TEST(a_channel_that_nobody_receives_from_closes_what_is_in_it) {
    Pipe queued, refused;
    {
        auto channel = make_channel(1);
        Message message = with(Descriptor::duplicate(queued.writer()));
        CHECK_EQ(send(*channel, 1, message), Status::ok);
        Message late = with(Descriptor::duplicate(refused.writer()));
        CHECK_EQ(send(*channel, 1, late, in_ms(1)), Status::timeout);
        queued.close_writer();
        refused.close_writer();
        CHECK(late && queued.open() && refused.open());
        late.reset();
        CHECK(!refused.open());
    }
    CHECK(!queued.open());
    CHECK_EQ(on_their_way(), 0u);
}

TEST(closing_the_receiving_end_closes_them) {
    Pipe pipe;
    auto channel = make_channel();
    Message message = with(Descriptor::duplicate(pipe.writer()));
    CHECK_EQ(send(*channel, 1, message), Status::ok);
    pipe.close_writer();
    CHECK(pipe.open());
    channel->close(Side::recv, 2);
    channel->close(Side::recv, 1);
    CHECK(!pipe.open());
    CHECK_EQ(on_their_way(), 0u);
}

TEST(what_is_no_descriptor_is_refused) {
    host();
    for (const int fd : {-1, 1'000'000}) {
        errno = 0;
        CHECK(!Descriptor::duplicate(fd));
        CHECK_EQ(errno, EBADF);
    }
    CHECK_EQ(on_their_way(), 0u);
}

TEST(without_room_nothing_is_lost) {
    host();
    Pipe pipe;
    Message message = with(Descriptor::duplicate(pipe.writer()));
    pipe.close_writer();
    rlimit before{};
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    const rlimit none{1, before.rlim_max};  // 0 would be EINVAL
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    const Handle<Descriptor> failed = in(message).duplicate();
    const int error = errno;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK(!failed);
    CHECK_EQ(error, EMFILE);
    CHECK(pipe.open());
    CHECK(in(message).duplicate());
    message.reset();
    CHECK(!pipe.open());
    CHECK_EQ(on_their_way(), 0u);
}

// The child must hold no copy: whoever reads would wait for it.
TEST(a_forked_child_has_none) {
    Pipe first, second, dropped;
    auto channel = make_channel();
    for (const Pipe* const pipe : {&first, &second}) {
        Message message = with(Descriptor::duplicate(pipe->writer()));
        CHECK_EQ(send(*channel, 1, message), Status::ok);
    }
    Message late = with(Descriptor::duplicate(dropped.writer()));
    for (Pipe* const pipe : {&first, &second, &dropped}) pipe->close_writer();
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        const bool closed = on_their_way() == 0;
        late.reset();  // has nothing to close, and must not touch the child's own account
        const Handle<Descriptor> own = Descriptor::duplicate(first.reader());
        const bool counted = own && on_their_way() == 1;
        for (;;) {  // until the parent has seen that it is the only one
            char byte;
            if (read(second.reader(), &byte, 1) == 0) _exit(closed && counted ? 0 : 1);
            std::this_thread::yield();
        }
    }
    CHECK(first.open() && second.open() && dropped.open());
    // fork() may return here before it has closed them there.
    late.reset();
    eventually([&] { return !dropped.open(); });
    for (const Pipe* const pipe : {&first, &second}) {
        CHECK(pipe->open());
        Message message;
        CHECK_EQ(recv(*channel, 1, message), Status::ok);
        message.reset();
        eventually([&] { return !pipe->open(); });
    }
    int status = -1;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 0);
    CHECK_EQ(on_their_way(), 0u);
}

TEST(threads_send_receive_and_fork) {
    host();
    constexpr int each = 500;
    const std::size_t before = on_their_way();
    Pipe pipe;
    std::atomic<bool> done{false};
    {
        auto channel = make_channel();
        std::thread forker([&] {
            while (!done) {
                const pid_t child = fork();
                CHECK(child >= 0);
                if (child == 0) _exit(on_their_way() == 0 ? 0 : 1);
                int status = -1;
                CHECK_EQ(waitpid(child, &status, 0), child);
                CHECK_EQ(status, 0);
            }
        });
        std::array<std::thread, 4> threads;
        for (std::size_t i = 0; i < threads.size(); ++i) {
            threads[i] = std::thread([&, i] {
                for (int round = 0; round < each; ++round) {
                    if (i % 2 == 0) {
                        Message message = with(Descriptor::duplicate(pipe.writer()));
                        CHECK_EQ(send(*channel, 1, message), Status::ok);
                        continue;
                    }
                    Message message;
                    CHECK_EQ(recv(*channel, 1, message), Status::ok);
                    const Handle<Descriptor> own = in(message).duplicate();
                    CHECK(own);
                    if (round % 2 == 0) close(own->release());
                }
            });
        }
        for (std::thread& thread : threads) thread.join();
        done = true;
        forker.join();
    }
    CHECK_EQ(on_their_way(), before);
    pipe.close_writer();
    CHECK(!pipe.open());
}

int main(int count, char** arguments) { return check::run(count, arguments); }
