// Work for the threads of XLA's pool: pieces that any of them takes, and teams, whose
// members wait for each other at every step.
//
// Linux often wakes a thread on the processor of the one that called it, which then
// stands still while another processor is idle. Such a thread calls one more.

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>

#include "calls.h"

namespace {

// Returns once `ready` does; soon after it does, if that is soon.
template <typename Ready>
void WaitUntil(const Ready& ready) {
  constexpr int kSpins = 4096;
  for (int spins = 0; !ready(); ++spins) {
    if (spins > kSpins) std::this_thread::yield();
  }
}

// The processor that this thread is on; -1 where the system does not tell.
inline int Processor() {
#ifdef __linux__
  return sched_getcpu();
#else
  return -1;
#endif
}

// Calls run(0) to run(count - 1), on the threads of the pool and this one. It waits for
// what others have begun and for nothing that has not: a pool whose threads are all in
// here goes on.
template <typename Run>
void ForEach(const Call& call, int64_t count, const Run& run) {
  struct Work {
    std::atomic<int64_t> next{0}, done{0};
  };
  auto work = std::make_shared<Work>();
  auto finish = [work, &run](int64_t i) {
    run(i);
    work->done.fetch_add(1, std::memory_order_release);
  };
  auto take = [work, count, finish] {
    for (int64_t i; (i = work->next.fetch_add(1)) < count;) finish(i);
  };
  // There is a `call` as long as something that was begun is not done.
  auto help = [work, count, finish, take, &call, here = Processor()] {
    const int64_t i = work->next.fetch_add(1);
    if (i >= count) return;
    if (Processor() == here) call.Schedule(take);
    finish(i);
    take();
  };
  const int64_t helpers = std::min(count, call.threads()) - 1;
  for (int64_t i = 0; i < helpers; ++i) call.Schedule(help);
  take();
  WaitUntil([&] { return work->done.load(std::memory_order_acquire) == count; });
}

// Threads that wait for each other at every step, `most` or fewer.
class Team {
 public:
  explicit Team(int64_t most) : most_(most) {}

  int64_t size() const { return size_.load(std::memory_order_acquire); }

  // The number of a new member; -1 for one who comes too late.
  int64_t Join() {
    const int64_t member = joined_.fetch_add(1);
    if (member + 1 == most_) size_.store(most_, std::memory_order_release);
    return member < most_ ? member : -1;
  }

  // No more members than have joined.
  void Close() {
    const int64_t joined = joined_.exchange(most_);
    size_.store(std::min(joined, most_), std::memory_order_release);
  }

  // Waits until all members have joined.
  void Begin() {
    WaitUntil([&] { return size() > 0; });
  }

  // Waits until all members are here.
  void Wait() {
    const int64_t turn = turn_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 < size()) {
      return WaitUntil([&] { return turn_.load(std::memory_order_acquire) != turn; });
    }
    arrived_.store(0, std::memory_order_relaxed);
    turn_.store(turn + 1, std::memory_order_release);
  }

  // What a member does last.
  void End() { ended_.fetch_add(1, std::memory_order_release); }

  // Waits until all members have ended.
  void WaitForEnd() {
    WaitUntil([&] { return ended_.load(std::memory_order_acquire) == size(); });
  }

 private:
  const int64_t most_;
  std::atomic<int64_t> joined_{0}, size_{0}, arrived_{0}, turn_{0}, ended_{0};
};

// What a member of a team does after each step; who is alone has nothing to wait for.
struct Waiting {
  Team* team = nullptr;

  void operator()() const {
    if (team) team->Wait();
  }
};

// Calls run(member, team) on as many threads, up to `most`, as the pool has free before
// patience ends: a thread that may never begin cannot be waited for at every step.
template <typename Run>
void Together(const Call& call, int64_t most, std::chrono::nanoseconds patience,
              const Run& run) {
  using Clock = std::chrono::steady_clock;
  auto team = std::make_shared<Team>(most);
  auto replaced = std::make_shared<std::atomic<bool>>(false);
  auto take_part = [team, &run](int64_t member) {
    team->Begin();
    run(member, *team);
    team->End();
  };
  auto replace = [team, take_part] {
    if (const int64_t member = team->Join(); member >= 0) take_part(member);
  };
  // Who is woken on this thread's processor calls another, to take this thread's place.
  auto help = [team, take_part, replaced, replace, &call, here = Processor()] {
    const int64_t member = team->Join();
    if (member < 0) return;
    if (Processor() == here) {
      replaced->store(true);
      call.Schedule(replace);
    }
    take_part(member);
  };
  for (int64_t i = 1; i < most; ++i) call.Schedule(help);
  // What a thread takes to begin, at most, if a processor is idle.
  constexpr std::chrono::nanoseconds kToBegin(200'000);
  const Clock::time_point begin = Clock::now();
  auto wait = [&](std::chrono::nanoseconds longest) {
    WaitUntil([&] { return team->size() > 0 || Clock::now() > begin + longest; });
  };
  if (replaced->load()) wait(std::min(patience, kToBegin));
  const int64_t member = team->Join();
  wait(patience);
  team->Close();
  if (member >= 0) take_part(member);
  team->WaitForEnd();
}

}  // namespace
