// Checks for the core's tests, and the loop that runs them. A failed check says what it compared and where,
// and ends the program: the threads of a failed test cannot be joined.
#pragma once

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/status.hpp"

namespace check {

struct Test {
    std::string name;
    std::function<void()> body;
};

inline std::vector<Test>& tests() {
    static std::vector<Test> all;
    return all;
}

inline const char* running = "";  // name of the current test
// Called with a failure, to add what the test knows (a seed, a schedule).
inline std::function<void()> on_failure;

struct Registration {
    Registration(std::string name, std::function<void()> body) {
        tests().push_back({std::move(name), std::move(body)});
    }
};

[[noreturn]] inline void fail(const char* file, int line, const std::string& text) {
    std::fprintf(stderr, "%s:%d: in %s: %s\n", file, line, running, text.c_str());
    if (on_failure) on_failure();
    std::fflush(nullptr);
    std::_Exit(1);
}

inline const char* name_of(memchannel::Status status) {
    static constexpr const char* names[] = {"ok",          "empty",  "full",    "parked",   "retry",
                                            "closed",      "ended",  "broken",  "poisoned", "timeout",
                                            "interrupted", "ending", "misused", "abandoned"};
    const auto index = static_cast<std::size_t>(status);
    return index < std::size(names) ? names[index] : "?";
}

template <class T>
std::string show(const T& value) {
    std::ostringstream out;
    if constexpr (std::is_same_v<T, memchannel::Status>) {
        out << name_of(value);
    } else if constexpr (std::is_enum_v<T>) {
        out << static_cast<long long>(value);
    } else if constexpr (requires { out << value; }) {
        out << value;
    } else if constexpr (requires { value.begin(); }) {
        const char* separator = "[";
        for (const auto& item : value) out << std::exchange(separator, ", ") << show(item);
        out << "]";
    } else {
        out << "(no text)";
    }
    return out.str();
}

template <class A, class B>
void equal(const A& a, const B& b, const char* what, const char* file, int line) {
    if (!(a == b)) fail(file, line, std::string(what) + " failed: " + show(a) + " and " + show(b));
}

// Only a net for hangs: names the test that hangs, which ctest's own time-out does not.
inline void name_hanging_test(int) {
    constexpr const char* text = "no progress in test ";
    for (const char* part : {text, running, "\n"}) {
        if (write(STDERR_FILENO, part, std::strlen(part)) < 0) break;
    }
    std::_Exit(1);
}

// Runs the tests whose names contain one of the arguments; all without arguments.
inline int run(int count, char** arguments) {
    signal(SIGALRM, name_hanging_test);
    int done = 0;
    for (const Test& test : tests()) {
        bool wanted = count < 2;
        for (int i = 1; i < count; ++i) wanted = wanted || test.name.find(arguments[i]) != std::string::npos;
        if (!wanted) continue;
        running = test.name.c_str();
        alarm(200);
        test.body();
        on_failure = nullptr;
        ++done;
    }
    alarm(0);
    std::printf("%d tests passed\n", done);
    return done ? 0 : 1;
}

}  // namespace check

#define CHECK(...) \
    ((__VA_ARGS__) ? static_cast<void>(0) : check::fail(__FILE__, __LINE__, "CHECK(" #__VA_ARGS__ ") failed"))
#define CHECK_EQ(a, b) check::equal(a, b, "CHECK_EQ(" #a ", " #b ")", __FILE__, __LINE__)
#define FAIL(text) check::fail(__FILE__, __LINE__, text)

#define TEST(name)                                                        \
    static void test_##name();                                            \
    static const check::Registration register_##name(#name, test_##name); \
    static void test_##name()
