// What the kernels need of the machine, on a GPU. `tests/cuda_on_cpu.h` has the same
// names for threads of a CPU, and no kernel reaches another thread but through them.

// --- numbers in memory, and what is computed with ---

#if VALUE == 16  // bfloat16
typedef unsigned short value;
__device__ __forceinline__ float read(value x) {
  return __uint_as_float((unsigned)x << 16);
}
__device__ __forceinline__ value written(float x) {
  value y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x));
  return y;
}
#elif VALUE == 17  // float16
typedef unsigned short value;
__device__ __forceinline__ float read(value x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
  return y;
}
__device__ __forceinline__ value written(float x) {
  value y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
  return y;
}
#else
typedef real value;
__device__ __forceinline__ real read(value x) { return x; }
__device__ __forceinline__ value written(real x) { return x; }
#endif

// a / b to two units in the last place, 0 where b is over 2^126.
__device__ __forceinline__ float quotient(float a, float b) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(b));
  return a * y;
}

// 2^a to two units in the last place, 0 where that is less than 2^-126.
__device__ __forceinline__ float power_of_two(float a) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(a));
  return y;
}

struct __align__(16) Four {
  real x, y, z, w;
};

// --- the threads of a warp and of a block ---

// The same number, in a register. What follows from a block's or thread's index would be
// computed anew at every step, from special registers, which take long to read.
__device__ __forceinline__ int held(int x) { return __shfl_sync(~0u, x, threadIdx.x); }

__device__ __forceinline__ float from_lane_xor(float x, int lanes) {
  return __shfl_xor_sync(~0u, x, lanes);
}
__device__ __forceinline__ double from_lane_xor(double x, int lanes) {
  return __shfl_xor_sync(~0u, x, lanes);
}

// yes ? a : b, without the branch that the compiler may make of that: in both of its arms
// it puts the shuffle that comes next, and a shuffle of a part of a warp is slow.
__device__ __forceinline__ float chosen(bool yes, float a, float b) {
  float y;
  asm("{\n"
      ".reg .pred yes;\n"
      "setp.ne.u32 yes, %3, 0;\n"
      "selp.f32 %0, %1, %2, yes;\n"
      "}\n"
      : "=f"(y)
      : "f"(a), "f"(b), "r"((unsigned)yes));
  return y;
}
__device__ __forceinline__ double chosen(bool yes, double a, double b) {
  double y;
  asm("{\n"
      ".reg .pred yes;\n"
      "setp.ne.u32 yes, %3, 0;\n"
      "selp.f64 %0, %1, %2, yes;\n"
      "}\n"
      : "=d"(y)
      : "d"(a), "d"(b), "r"((unsigned)yes));
  return y;
}

__device__ __forceinline__ float tensor_float(float x) {
  unsigned y;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
  return __uint_as_float(y);
}

// sums (16, 8) += a (16, 8) b (8, 8), spread over a warp as PTX's mma.m16n8k8 has it.
__device__ __forceinline__ void multiply_add(float* sums, const float* a, float b0,
                                             float b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])),
        "r"(__float_as_uint(a[2])), "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b0)),
        "r"(__float_as_uint(b1)));
}

// --- copies from memory that go on while the thread does ---

// Room for a number or a truth value of an array.
struct Slot {
  unsigned words[sizeof(real) / 4];
};

// Starts to copy array[at]; of a type of fewer than four bytes the word that it is in.
template <typename T>
__device__ __forceinline__ void copy_ahead(Slot* slot, const T* array, size_t at) {
  constexpr int size = sizeof(T) < 4 ? 4 : sizeof(T);
  size_t address = reinterpret_cast<size_t>(array + at);
  if (sizeof(T) < 4) address = address / 4 * 4;
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(
                   (unsigned)__cvta_generic_to_shared(slot)),
               "l"(address), "n"(size)
               : "memory");
}
// What is started between two of these is one step's.
__device__ __forceinline__ void end_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits for all of this thread's copies but those of the last kSteps steps.
template <int kSteps>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kSteps) : "memory");
}
template <typename T>
__device__ __forceinline__ T copied(const Slot& slot, size_t at) {
  if constexpr (sizeof(T) == 8) {
    return __hiloint2double(slot.words[1], slot.words[0]);
  } else if constexpr (sizeof(T) == 4) {
    return __uint_as_float(slot.words[0]);
  } else {
    return static_cast<T>(slot.words[0] >> (at * sizeof(T) % 4 * 8));
  }
}

extern __shared__ __align__(128) unsigned char shared_bytes[];
#define SHARED(Type, name) Type& name = *reinterpret_cast<Type*>(shared_bytes)

// --- the blocks of a cluster ---

// Counts the bytes that other blocks have stored here.
struct __align__(8) Mailbox {
  unsigned long long state;
};

#if FORM == CLUSTER
__device__ __forceinline__ unsigned local_address(const void* p) {
  return (unsigned)__cvta_generic_to_shared(p);
}
// Where another block has what is at `p` here. The address of its first byte does not
// change, so that the compiler can keep it.
__device__ __forceinline__ unsigned address_of(const void* p, unsigned rank) {
  const unsigned here = local_address(shared_bytes);
  unsigned there;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(here), "r"(rank));
  return there + (local_address(p) - here);
}
__device__ __forceinline__ void open_mailbox(Mailbox* box) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(local_address(box))
               : "memory");
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void expect(Mailbox* box, unsigned bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(local_address(box)),
      "r"(bytes)
      : "memory");
}
__device__ __forceinline__ bool arrived(Mailbox* box, unsigned parity) {
  unsigned yes;
  asm volatile(
      "{\n"
      ".reg .pred yes;\n"
      "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 yes, [%1], %2;\n"
      "selp.u32 %0, 1, 0, yes;\n"
      "}\n"
      : "=r"(yes)
      : "r"(local_address(box)), "r"(parity)
      : "memory");
  return yes;
}
__device__ __forceinline__ void wait_for(Mailbox* box, unsigned parity) {
  while (!arrived(box, parity)) {
  }
}
__device__ __forceinline__ void send(float* local, unsigned rank, float x, Mailbox* box) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::
          "r"(address_of(local, rank)),
      "r"(__float_as_uint(x)), "r"(address_of(box, rank))
      : "memory");
}
__device__ __forceinline__ void send(double* local, unsigned rank, double x,
                                     Mailbox* box) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b64 [%0], %1, [%2];" ::
          "r"(address_of(local, rank)),
      "l"(__double_as_longlong(x)), "r"(address_of(box, rank))
      : "memory");
}
// All threads of all blocks wait for each other.
__device__ __forceinline__ void meet() {
  asm volatile("barrier.cluster.arrive.release;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
}
__device__ __forceinline__ int rank_in_cluster() {
  int rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
#endif

// --- the blocks of a grid ---

#if FORM == GRID
// Waits until `count` blocks have come, counted in `counter`; what they wrote is seen
// then.
__device__ __forceinline__ void meet_at(unsigned* counter, unsigned count) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    atomicAdd(counter, 1u);
    unsigned come;
    do {
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
                   : "=r"(come)
                   : "l"(counter)
                   : "memory");
    } while (come < count);
  }
  __syncthreads();
}
__device__ __forceinline__ real fetch(const real* x) { return __ldcg(x); }
#endif
