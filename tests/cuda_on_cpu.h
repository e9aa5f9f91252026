// What the CUDA kernels need of a GPU, on a CPU. The same names as in `gpu.h`, and the
// same meaning, but that products have all digits of a float.
#include <cmath>
#include <cstdint>
#include <cstring>

#include "cuda_threads.h"

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define SHARED(Type, name) Type& name = *reinterpret_cast<Type*>(shared_memory())

template <typename T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}

// --- numbers -------------------------------------------------------------------------

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

inline int held(int x) { return x; }
inline real chosen(bool yes, real a, real b) { return yes ? a : b; }

// --- between threads -----------------------------------------------------------------

template <typename Number>
Number from_lane_xor(Number x, int other) {
  const int lane = threadIdx.x % 32;
  lanes()[lane] = x;
  meet_in_warp();
  const Number y = lanes()[lane ^ other];
  meet_in_warp();
  return y;
}

inline float tensor_float(float x) { return x; }

inline void multiply_add(float* sums, const float* a, float b0, float b1) {
  const int lane = threadIdx.x % 32;
  double* const all = lanes();
  const double own[6] = {a[0], a[1], a[2], a[3], b0, b1};
  std::memcpy(all + 6 * lane, own, sizeof own);
  meet_in_warp();
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4, upper = i / 2, column = lane % 4 * 2 + i % 2;
    for (int k = 0; k < 8; ++k) {
      const double x = all[6 * (row * 4 + k % 4) + upper + 2 * (k / 4)];
      const double y = all[6 * (column * 4 + k % 4) + 4 + k / 4];
      sums[i] += x * y;
    }
  }
  meet_in_warp();
}

inline void send(real* local, int rank, real x, Mailbox* box) {
  const auto there = [rank](auto* own) {
    return reinterpret_cast<decltype(own)>(at_rank(reinterpret_cast<char*>(own), rank));
  };
  *there(local) = x;
  arrived(there(box), sizeof x);
}

inline void meet_at(unsigned*, unsigned) { meet(); }
inline real fetch(const real* x) { return *x; }

// Runs a kernel's blocks, BLOCKS of them at a time.
template <auto kKernel, typename Arguments>
void launch(const Arguments& arguments, int blocks) {
  const auto kernel = [](const void* a) { kKernel(*static_cast<const Arguments*>(a)); };
  run_blocks(kernel, &arguments, {BLOCKS, THREADS, SHARED_BYTES}, blocks);
}
