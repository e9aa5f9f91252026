// What the CUDA kernels need of the machine, given by a CPU: a std::thread a thread, all
// blocks that wait for each other at once. The same names as in `gpu.h`, and the same
// meaning, but that products have all digits of a float.
#include <algorithm>
#include <atomic>
#include <barrier>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
using std::max;
using std::min;

#if VALUE == 16
typedef uint16_t value;
inline float read(value x) {
  const uint32_t bits = uint32_t(x) << 16;
  float y;
  std::memcpy(&y, &bits, sizeof y);
  return y;
}
inline value written(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;  // to even
}
#elif VALUE == 17
typedef _Float16 value;
inline float read(value x) { return x; }
inline value written(float x) { return x; }
#else
typedef real value;
inline real read(value x) { return x; }
inline value written(real x) { return x; }
#endif

inline float quotient(float a, float b) { return a / b; }
inline float power_of_two(float a) { return std::exp2(a); }

struct alignas(16) Four {
  real x, y, z, w;
};

struct Slot {
  real number;
};
template <typename T>
void copy_ahead(Slot* slot, const T* array, size_t at) {
  std::memcpy(slot, array + at, sizeof(T));
}
inline void end_copies() {}
template <int kSteps>
void wait_for_copies() {}
template <typename T>
T copied(const Slot& slot, size_t) {
  T x;
  std::memcpy(&x, &slot, sizeof x);
  return x;
}

struct Index {
  int x;
};
struct Team_;

struct Block {
  Team_* team;
  int rank;
  std::vector<char> shared;
  std::barrier<> threads;
  std::vector<std::unique_ptr<std::barrier<>>> warps;
  std::vector<double> lanes;  // what a warp's threads show each other
  Block(Team_* team, int rank, int count)
      : team(team),
        rank(rank),
        shared(SHARED_BYTES + 128),
        threads(count),
        lanes(6 * count) {
    for (int first = 0; first < count; first += 32)
      warps.push_back(std::make_unique<std::barrier<>>(std::min(32, count - first)));
  }
  char* base() {
    return reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(shared.data()) + 127) &
                                   ~uintptr_t(127));
  }
};

struct Team_ {
  std::vector<std::unique_ptr<Block>> blocks;
  std::barrier<> all;
  explicit Team_(int threads) : all(threads) {}
};

inline thread_local Block* this_block;
inline thread_local Index threadIdx, blockIdx;
#define SHARED(Type, name) Type& name = *reinterpret_cast<Type*>(this_block->base())

inline void __syncthreads() { this_block->threads.arrive_and_wait(); }

template <typename Number>
Number from_lane_xor(Number x, int lanes) {
  auto& warp = *this_block->warps[threadIdx.x / 32];
  this_block->lanes[threadIdx.x] = x;
  warp.arrive_and_wait();
  const Number other = this_block->lanes[threadIdx.x ^ lanes];
  warp.arrive_and_wait();
  return other;
}

inline float tensor_float(float x) { return x; }

inline void multiply_add(float* sums, const float* a, float b0, float b1) {
  auto& warp = *this_block->warps[threadIdx.x / 32];
  double* const lanes = this_block->lanes.data() + threadIdx.x / 32 * 32 * 6;
  const int lane = threadIdx.x % 32;
  const double own[6] = {a[0], a[1], a[2], a[3], b0, b1};
  std::copy_n(own, 6, lanes + 6 * lane);
  warp.arrive_and_wait();
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4, upper = i / 2, column = lane % 4 * 2 + i % 2;
    for (int k = 0; k < 8; ++k) {
      const double x = lanes[6 * (row * 4 + k % 4) + upper + 2 * (k / 4)];
      const double y = lanes[6 * (column * 4 + k % 4) + 4 + k / 4];
      sums[i] += x * y;
    }
  }
  warp.arrive_and_wait();
}

// A phase is over when one thread has said what to expect and all of it has come.
struct Mailbox {
  std::atomic<int64_t> missing;
  std::atomic<unsigned> phase;
};
constexpr int64_t kUnsaid = int64_t{1} << 40;

inline void change(Mailbox* box, int64_t by) {
  if (box->missing.fetch_add(by, std::memory_order_acq_rel) + by == 0) {
    box->missing.store(kUnsaid, std::memory_order_relaxed);
    box->phase.fetch_add(1, std::memory_order_release);
    box->phase.notify_all();
  }
}
inline void open_mailbox(Mailbox* box) { box->missing = kUnsaid, box->phase = 0; }
inline void expect(Mailbox* box, unsigned bytes) {
  change(box, int64_t{bytes} - kUnsaid);
}
inline void wait_for(Mailbox* box, unsigned parity) {
  unsigned now;
  while ((now = box->phase.load(std::memory_order_acquire)) % 2 == parity)
    box->phase.wait(now, std::memory_order_acquire);
}
template <typename T>
T* address_of(T* local, int rank) {
  char* const there = this_block->team->blocks[rank]->base();
  return reinterpret_cast<T*>(there +
                              (reinterpret_cast<char*>(local) - this_block->base()));
}
inline void send(real* local, int rank, real x, Mailbox* box) {
  *address_of(local, rank) = x;
  change(address_of(box, rank), -int64_t{sizeof x});
}
inline void meet() { this_block->team->all.arrive_and_wait(); }

inline void meet_at(unsigned*, unsigned) { meet(); }
inline real fetch(const real* x) { return *x; }

// Runs a kernel: `blocks` of THREADS threads, BLOCKS of them at a time.
template <typename Kernel, typename Arguments>
void launch(Kernel kernel, const Arguments& arguments, int blocks) {
  for (int first = 0; first < blocks; first += BLOCKS) {
    Team_ team(BLOCKS * THREADS);
    for (int rank = 0; rank < BLOCKS; ++rank)
      team.blocks.push_back(std::make_unique<Block>(&team, rank, THREADS));
    std::vector<std::thread> all;
    for (int rank = 0; rank < BLOCKS; ++rank) {
      for (int thread = 0; thread < THREADS; ++thread) {
        all.emplace_back([&, rank, thread] {
          this_block = team.blocks[rank].get();
          threadIdx = {thread}, blockIdx = {first + rank};
          kernel(arguments);
        });
      }
    }
    for (auto& thread : all) thread.join();
  }
}
