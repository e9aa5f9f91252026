// A std::thread a thread, all blocks that wait for each other at once.
#include "cuda_threads.h"

#include <algorithm>
#include <atomic>
#include <barrier>
#include <memory>
#include <thread>
#include <vector>

namespace {

struct Block {
  int rank;
  std::vector<char> shared;
  std::barrier<> threads;
  std::vector<std::unique_ptr<std::barrier<>>> warps;
  std::vector<double> lanes;
  Block(int rank, int count, int shared_bytes)
      : rank(rank), shared(shared_bytes + 128), threads(count), lanes(6 * count) {
    for (int first = 0; first < count; first += 32)
      warps.push_back(std::make_unique<std::barrier<>>(std::min(32, count - first)));
  }
  char* base() {
    return reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(shared.data()) + 127) &
                                   ~uintptr_t(127));
  }
};

struct Team {
  std::vector<std::unique_ptr<Block>> blocks;
  std::barrier<> all;
  explicit Team(int threads) : all(threads) {}
};

thread_local Team* team;
thread_local Block* block;

struct Atoms {
  std::atomic<int64_t> missing;
  std::atomic<int64_t> phase;
};
static_assert(sizeof(Atoms) == sizeof(Mailbox));
constexpr int64_t kUnsaid = int64_t{1} << 40;

Atoms& atoms(Mailbox* box) { return *reinterpret_cast<Atoms*>(box); }

void change(Mailbox* box, int64_t by) {
  auto& [missing, phase] = atoms(box);
  if (missing.fetch_add(by, std::memory_order_acq_rel) + by == 0) {
    missing.store(kUnsaid, std::memory_order_relaxed);
    phase.fetch_add(1, std::memory_order_release);
    phase.notify_all();
  }
}

}  // namespace

thread_local Index threadIdx, blockIdx;

void __syncthreads() { block->threads.arrive_and_wait(); }
void meet() { team->all.arrive_and_wait(); }
void meet_in_warp() { block->warps[threadIdx.x / 32]->arrive_and_wait(); }

char* shared_memory() { return block->base(); }
char* at_rank(char* own, int rank) {
  return team->blocks[rank]->base() + (own - block->base());
}
double* lanes() { return block->lanes.data() + threadIdx.x / 32 * 32 * 6; }

void open_mailbox(Mailbox* box) {
  atoms(box).missing = kUnsaid, atoms(box).phase = 0;
}
void expect(Mailbox* box, unsigned bytes) { change(box, int64_t{bytes} - kUnsaid); }
void arrived(Mailbox* box, unsigned bytes) { change(box, -int64_t{bytes}); }
void wait_for(Mailbox* box, unsigned parity) {
  auto& phase = atoms(box).phase;
  int64_t now;
  while ((now = phase.load(std::memory_order_acquire)) % 2 == parity)
    phase.wait(now, std::memory_order_acquire);
}

void run_blocks(void (*kernel)(const void*), const void* arguments, Size size,
                int blocks) {
  for (int first = 0; first < blocks; first += size.blocks) {
    Team now(size.blocks * size.threads);
    for (int rank = 0; rank < size.blocks; ++rank)
      now.blocks.push_back(
          std::make_unique<Block>(rank, size.threads, size.shared_bytes));
    std::vector<std::thread> all;
    for (int rank = 0; rank < size.blocks; ++rank) {
      for (int thread = 0; thread < size.threads; ++thread) {
        all.emplace_back([&, rank, thread] {
          team = &now, block = now.blocks[rank].get();
          threadIdx = {thread}, blockIdx = {first + rank};
          kernel(arguments);
        });
      }
    }
    for (auto& thread : all) thread.join();
  }
}
