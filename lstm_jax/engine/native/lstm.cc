// The sequential part of an LSTM over a stretch of time, forward and back, on CPUs.
//
// The equations are those of lstm_jax/cells/lstm.py, with the same numbers, and the
// masks those of lstm_jax/engine/bptt.py. What makes it faster than a compiled scan: rows of
// the batch do not depend on each other, so each thread takes some of them through all
// steps, with nothing to wait for; the recurrent product and the gates of a step run
// while its numbers are in registers and the first cache; and a step's results go where
// what they came from was, so that nothing is copied.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

// --- vectors of 64 bytes, which the compiler splits where the machine's are shorter ---

template <typename T>
struct Vectors;

template <>
struct Vectors<float> {
  typedef float Values __attribute__((vector_size(64)));
  typedef int32_t Integers __attribute__((vector_size(64)));
  static constexpr int kMantissa = 23, kBias = 127, kTerms = 7;
  static constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds
  static constexpr float kLow = -87.0f, kHigh = 88.0f;
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
};

template <>
struct Vectors<double> {
  typedef double Values __attribute__((vector_size(64)));
  typedef int64_t Integers __attribute__((vector_size(64)));
  static constexpr int kMantissa = 52, kBias = 1023, kTerms = 13;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kLow = -708.0, kHigh = 709.0;
  static constexpr double kLn2High = 6.93145751953125e-1;
  static constexpr double kLn2Low = 1.42860682030941723212e-6;
};

template <typename T>
using Vector = typename Vectors<T>::Values;
template <typename T>
using Integers = typename Vectors<T>::Integers;
template <typename T>
constexpr int kLanes = 64 / sizeof(T);

template <typename T>
Vector<T> Load(const T* from, int64_t count = kLanes<T>) {
  Vector<T> v{};
  if (count >= kLanes<T>) {
    std::memcpy(&v, from, sizeof v);
  } else {
    std::memcpy(&v, from, count * sizeof(T));
  }
  return v;
}

template <typename T>
void Store(T* to, Vector<T> v, int64_t count = kLanes<T>) {
  if (count >= kLanes<T>) {
    std::memcpy(to, &v, sizeof v);
  } else {
    std::memcpy(to, &v, count * sizeof(T));
  }
}

template <typename T>
constexpr T InverseFactorial(int k) {
  return k < 2 ? T(1) : InverseFactorial<T>(k - 1) / k;
}

// exp(x) = scale + scale * rest: x = n ln 2 + r, scale = 2^n, and rest = exp(r) - 1 by
// its Taylor series, |r| < 0.35. Beyond the clamps nothing changes in a gate.
template <typename T>
struct Exponential {
  Vector<T> scale, rest;

  explicit Exponential(Vector<T> x) {
    using C = Vectors<T>;
    x = x > C::kHigh ? Vector<T>{} + C::kHigh : x;  // not a number stays what it is
    x = x < C::kLow ? Vector<T>{} + C::kLow : x;
    const Vector<T> n = (x * T(1.4426950408889634074) + C::kRound) - C::kRound;
    const Vector<T> r = (x - n * C::kLn2High) - n * C::kLn2Low;
    Vector<T> series{};
#pragma GCC unroll 16
    for (int k = C::kTerms; k > 0; --k) series = series * r + InverseFactorial<T>(k);
    rest = r * series;
    const Integers<T> power = __builtin_convertvector(n, Integers<T>) + C::kBias;
    scale = reinterpret_cast<Vector<T>>(power << C::kMantissa);
  }
};

template <typename T>
Vector<T> Sigmoid(Vector<T> z) {
  const Exponential<T> e(-z);
  return T(1) / (T(1) + e.scale + e.scale * e.rest);
}

// tanh z = m / (m + 2) with m = exp(2z) - 1, which loses nothing near 0.
template <typename T>
Vector<T> Tanh(Vector<T> z) {
  const Exponential<T> e(z + z);
  const Vector<T> m = e.scale * e.rest + (e.scale - T(1));
  return m / (m + T(2));
}

// --- a product of a few rows and a matrix ---------------------------------------------

// A matrix as `forward_panels` or `reverse_panels` of lstm_jax/engine/native lays it out: panels
// of two vectors' width, each row after row, so that a product reads it from one end to
// the other. Its columns are `groups` blocks, of which a vector each lies side by side.
template <typename T>
struct Panels {
  static constexpr int64_t kWidth = 2 * kLanes<T>;
  const T* values;
  int64_t count, rows, groups;

  // The number of panels with all columns of the first `units` of each group.
  int64_t before(int64_t units) const {
    const int64_t vectors = (units + kLanes<T> - 1) / kLanes<T> * groups;
    return (vectors + 1) / 2;
  }

  int64_t width() const { return count * kWidth; }
};

// sums (kRows, width) += rows (kRows, matrix.rows) times kPanels panels of the matrix:
// one chain of additions a vector, and there must be enough chains for the processor to
// have always one that is ready.
template <typename T, int kRows, int kPanels>
void AddPanels(const T* const* rows, const Panels<T>& matrix, int64_t first, T* sums) {
  constexpr int kVectors = 2 * kPanels;
  const int64_t panel = matrix.rows * matrix.kWidth;
  const T* from = matrix.values + first * panel;
  T* to = sums + first * matrix.kWidth;
  const T* factors[kRows];
  std::copy_n(rows, kRows, factors);
  Vector<T> total[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      total[r][v] = Load(to + r * matrix.width() + v * kLanes<T>);
    }
  }
  for (int64_t k = 0; k < matrix.rows; ++k, from += matrix.kWidth) {
    Vector<T> weights[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      weights[v] = Load(from + v / 2 * panel + v % 2 * kLanes<T>);
    }
    for (int r = 0; r < kRows; ++r) {
      const T factor = factors[r][k];
      for (int v = 0; v < kVectors; ++v) total[r][v] += factor * weights[v];
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      Store(to + r * matrix.width() + v * kLanes<T>, total[r][v]);
    }
  }
}

constexpr int64_t kMostRows = 8;  // with two vectors each they fill half the registers

// AddPanels for panels `first` to `last`, a few at once if the rows are few.
template <typename T, int kRows = kMostRows>
void AddProduct(int64_t count, const T* const* rows, const Panels<T>& matrix,
                int64_t first, int64_t last, T* sums) {
  if constexpr (kRows > 1) {
    if (count < kRows) {
      return AddProduct<T, kRows - 1>(count, rows, matrix, first, last, sums);
    }
  }
  constexpr int kPanels = kRows < 4 ? 4 / kRows : 1;
  for (; first + kPanels <= last; first += kPanels) {
    AddPanels<T, kRows, kPanels>(rows, matrix, first, sums);
  }
  for (; first < last; ++first) AddPanels<T, kRows, 1>(rows, matrix, first, sums);
}

// --- threads --------------------------------------------------------------------------

// Returns once `ready` does; soon after it does, if that is soon.
template <typename Ready>
void WaitUntil(const Ready& ready) {
  constexpr int kSpins = 4096;
  for (int spins = 0; !ready(); ++spins) {
    if (spins > kSpins) std::this_thread::yield();
  }
}

// Calls run(0) to run(count - 1), on the threads of the pool and this one. It waits for
// what others have begun and for nothing that has not: a pool whose threads are all in
// here goes on.
template <typename Run>
void ForEach(ffi::ThreadPool& pool, int64_t count, const Run& run) {
  struct Work {
    std::atomic<int64_t> next{0}, done{0};
  };
  auto work = std::make_shared<Work>();
  auto take = [work, count, &run] {
    for (int64_t i; (i = work->next.fetch_add(1)) < count;) {
      run(i);
      work->done.fetch_add(1, std::memory_order_release);
    }
  };
  const int64_t helpers = std::min(count, pool.num_threads()) - 1;
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule(decltype(take)(take));
  take();
  WaitUntil([&] { return work->done.load(std::memory_order_acquire) == count; });
}

// Threads that wait for each other at every step.
class Team {
 public:
  int64_t size() const { return size_.load(std::memory_order_acquire); }
  int64_t joined() const { return joined_.load(std::memory_order_relaxed); }

  // The number of a new member, once all have joined; 0 for one who comes too late.
  int64_t Join() {
    const int64_t member = joined_.fetch_add(1);
    if (member >= kClosed) return 0;
    WaitUntil([&] { return size() > 0; });
    return member;
  }

  // No more members than have joined.
  void Close() { size_.store(joined_.exchange(kClosed), std::memory_order_release); }

  // Waits until all members are here.
  void Wait() {
    const int64_t turn = turn_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 < size()) {
      return WaitUntil([&] { return turn_.load(std::memory_order_acquire) != turn; });
    }
    arrived_.store(0, std::memory_order_relaxed);
    turn_.store(turn + 1, std::memory_order_release);
  }

 private:
  static constexpr int64_t kClosed = int64_t{1} << 32;
  std::atomic<int64_t> joined_{1}, size_{0}, arrived_{0}, turn_{0};
};

// Calls run(member, team) on as many threads, up to `most`, as the pool has free at
// once: a thread that may never begin cannot be waited for at every step.
template <typename Run>
void Together(ffi::ThreadPool& pool, int64_t most, const Run& run) {
  constexpr auto kPatience = std::chrono::microseconds(100);
  auto team = std::make_shared<Team>();
  for (int64_t i = 1; i < most; ++i) {
    pool.Schedule([team, &run] {
      if (const int64_t member = team->Join()) {
        run(member, *team);
        team->Wait();
      }
    });
  }
  const auto limit = std::chrono::steady_clock::now() + kPatience;
  WaitUntil([&] {
    return team->joined() == most || std::chrono::steady_clock::now() > limit;
  });
  team->Close();
  run(0, *team);
  team->Wait();
}

// --- who computes what ----------------------------------------------------------------

struct Sizes {
  int64_t problems, steps, batch, hidden;

  // From the shapes of a mask (..., T, B) and of a state (..., B, H).
  template <typename Shape>
  Sizes(const Shape& mask, const Shape& state) : problems(1), hidden(state.back()) {
    const size_t rank = mask.size();
    for (size_t axis = 0; axis + 2 < rank; ++axis) problems *= mask[axis];
    steps = mask[rank - 2];
    batch = mask[rank - 1];
  }
};

// What one thread computes at every step: some rows of a problem's batch, and of them
// some hidden units. Those who share rows read of each other what they wrote.
struct Share {
  int64_t problem, first_row, rows, first_unit, last_unit;
};

// The n-th of `parts` parts of `whole`, as even as its multiples of `unit` allow.
inline int64_t Part(int64_t n, int64_t parts, int64_t whole, int64_t unit = 1) {
  const int64_t units = (whole + unit - 1) / unit;
  return std::min(whole, n * units / parts * unit);
}

constexpr int64_t kCache = int64_t{1} << 21;  // bytes of a core's second-level cache
constexpr int64_t kLeastWork = int64_t{1} << 17;  // products for which a wait pays

// Calls run(share, wait) until everything is computed; all who share rows call wait()
// after each step.
//
// Rows do not depend on each other, so threads that divide the batch have nothing to
// wait for. But each reads all weights at every step: where these outgrow the cache, or
// rows are too few for all threads, they divide the hidden units.
template <typename T, typename Run>
void Divide(ffi::ThreadPool& pool, const Sizes& sizes, const Run& run) {
  const int64_t threads = pool.num_threads(), H = sizes.hidden;
  constexpr int64_t width = Panels<T>::kWidth;
  int64_t parts = (sizes.batch + kMostRows - 1) / kMostRows;
  parts = std::min(sizes.batch, (parts + threads - 1) / threads * threads);
  const int64_t work = sizes.batch * 4 * H * H;
  const int64_t members =
      std::min({threads, work / kLeastWork, (H + width - 1) / width});
  const bool large = 4 * H * H * int64_t{sizeof(T)} > kCache;
  if (members > (large ? 1 : sizes.problems * parts)) {
    for (int64_t problem = 0; problem < sizes.problems; ++problem) {
      Together(pool, members, [&](int64_t member, Team& team) {
        auto unit = [&](int64_t n) { return Part(n, team.size(), H, width); };
        run(Share{problem, 0, sizes.batch, unit(member), unit(member + 1)},
            [&] { team.Wait(); });
      });
    }
    return;
  }
  ForEach(pool, sizes.problems * parts, [&](int64_t task) {
    const int64_t part = task % parts, first = Part(part, parts, sizes.batch);
    const int64_t rows = Part(part + 1, parts, sizes.batch) - first;
    run(Share{task / parts, first, rows, 0, H}, [] {});
  });
}

// The matrix of one of many problems, from an array (..., count, rows, width).
template <typename T, ffi::DataType kType>
Panels<T> PanelsOf(const ffi::Buffer<kType>& all, int64_t problem, int64_t groups) {
  const auto shape = all.dimensions();
  const int64_t count = shape[shape.size() - 3], rows = shape[shape.size() - 2];
  return {all.typed_data() + problem * count * rows * Panels<T>::kWidth, count, rows,
          groups};
}

// sums += rows times the matrix, for the hidden units of a share.
template <typename T>
void AddShare(const Share& share, const std::vector<const T*>& rows,
              const Panels<T>& matrix, T* sums) {
  constexpr int64_t kAtOnce = 8;  // panels, which stay in the cache for all rows
  const int64_t last = matrix.before(share.last_unit);
  for (int64_t p = matrix.before(share.first_unit); p < last; p += kAtOnce) {
    for (int64_t r = 0; r < share.rows; r += kMostRows) {
      AddProduct(std::min(kMostRows, share.rows - r), rows.data() + r, matrix, p,
                 std::min(p + kAtOnce, last), sums + r * matrix.width());
    }
  }
}

// --- forward --------------------------------------------------------------------------

template <ffi::DataType kType, typename T = ffi::NativeType<kType>>
ffi::Error Forward(ffi::ThreadPool pool, bool reverse, ffi::Buffer<kType> panels,
                   ffi::Buffer<kType> b, ffi::Buffer<kType> initial_h,
                   ffi::Buffer<kType> initial_c, ffi::Buffer<kType> entry_h,
                   ffi::Buffer<kType> entry_c, ffi::Buffer<kType> product,
                   ffi::Buffer<ffi::PRED> valid, ffi::Buffer<ffi::PRED> carried,
                   ffi::ResultBuffer<kType> final_h, ffi::ResultBuffer<kType> final_c,
                   ffi::ResultBuffer<kType> new_h, ffi::ResultBuffer<kType> new_c,
                   ffi::ResultBuffer<kType> gates) {
  const Sizes sizes(valid.dimensions(), entry_h.dimensions());
  const int64_t T_ = sizes.steps, B = sizes.batch, H = sizes.hidden;
  Divide<T>(pool, sizes, [&](const Share& share, const auto& wait) {
    const Panels<T> matrix = PanelsOf<T>(panels, share.problem, 4);
    const int64_t rows = share.rows, first_state = share.problem * B + share.first_row;
    const T* bias = b.typed_data() + share.problem * 4 * H;
    std::vector<T> z(rows * matrix.width());
    // Of each row, the state before a step, and what the step starts from.
    std::vector<const T*> state_h(rows), state_c(rows), old_h(rows), old_c(rows);
    for (int64_t r = 0; r < rows; ++r) {
      state_h[r] = entry_h.typed_data() + (first_state + r) * H;
      state_c[r] = entry_c.typed_data() + (first_state + r) * H;
    }
    for (int64_t n = 0; n < T_; ++n) {
      const int64_t t = reverse ? T_ - 1 - n : n;
      const int64_t first = (share.problem * T_ + t) * B + share.first_row;
      for (int64_t r = 0; r < rows; ++r) {
        const bool carry = carried.typed_data()[first + r];
        const int64_t initial = (first_state + r) * H;
        old_h[r] = carry ? state_h[r] : initial_h.typed_data() + initial;
        old_c[r] = carry ? state_c[r] : initial_c.typed_data() + initial;
        const T* product_row = product.typed_data() + (first + r) * 4 * H;
        for (int64_t j = share.first_unit; j < share.last_unit; j += kLanes<T>) {
          T* z_unit = z.data() + r * matrix.width() + 4 * j;
          for (int64_t gate = 0; gate < 4; ++gate) {
            const int64_t column = gate * H + j;
            Store(z_unit + gate * kLanes<T>,
                  Load(product_row + column, H - j) + Load(bias + column, H - j));
          }
        }
      }
      AddShare(share, old_h, matrix, z.data());  // (1), (2)
      for (int64_t r = 0; r < rows; ++r) {
        const bool within = valid.typed_data()[first + r];
        const int64_t to = (first + r) * H;
        for (int64_t j = share.first_unit; j < share.last_unit; j += kLanes<T>) {
          const int64_t lanes = H - j;
          const T* z_unit = z.data() + r * matrix.width() + 4 * j;
          const Vector<T> i = Sigmoid<T>(Load(z_unit));                  // (3)
          const Vector<T> f = Sigmoid<T>(Load(z_unit + kLanes<T>));      // (3)
          const Vector<T> o = Sigmoid<T>(Load(z_unit + 2 * kLanes<T>));  // (3)
          const Vector<T> g = Tanh<T>(Load(z_unit + 3 * kLanes<T>));     // (4)
          const Vector<T> c = i * g + f * Load(old_c[r] + j, lanes);     // (5)
          const Vector<T> h = o * Tanh<T>(c);                            // (6), (7)
          T* gates_unit = gates->typed_data() + 4 * to + j;
          Store(gates_unit, i, lanes);
          Store(gates_unit + H, f, lanes);
          Store(gates_unit + 2 * H, o, lanes);
          Store(gates_unit + 3 * H, g, lanes);
          Store(new_h->typed_data() + to + j, within ? h : Load(state_h[r] + j, lanes),
                lanes);
          Store(new_c->typed_data() + to + j, within ? c : Load(state_c[r] + j, lanes),
                lanes);
        }
        state_h[r] = new_h->typed_data() + to;
        state_c[r] = new_c->typed_data() + to;
      }
      wait();  // for the rest of h
    }
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t j = share.first_unit, units = share.last_unit - j;
      const int64_t to = (first_state + r) * H + j;
      std::copy_n(state_h[r] + j, units, final_h->typed_data() + to);
      std::copy_n(state_c[r] + j, units, final_c->typed_data() + to);
    }
  });
  return ffi::Error::Success();
}

// --- its reverse ----------------------------------------------------------------------

template <ffi::DataType kType, typename T = ffi::NativeType<kType>>
ffi::Error Backward(ffi::ThreadPool pool, bool reverse, ffi::Buffer<kType> panels,
                    ffi::Buffer<kType> dlast_h, ffi::Buffer<kType> dlast_c,
                    ffi::Buffer<kType> initial_c, ffi::Buffer<kType> first_c,
                    ffi::Buffer<kType> dy, ffi::Buffer<kType> new_c, ffi::Buffer<kType> gates,
                    ffi::Buffer<ffi::PRED> valid, ffi::Buffer<ffi::PRED> carried,
                    ffi::ResultBuffer<kType> dfirst_h,
                    ffi::ResultBuffer<kType> dfirst_c,
                    ffi::ResultBuffer<kType> dinitial_h,
                    ffi::ResultBuffer<kType> dinitial_c, ffi::ResultBuffer<kType> dz) {
  const Sizes sizes(valid.dimensions(), dlast_h.dimensions());
  const int64_t T_ = sizes.steps, B = sizes.batch, H = sizes.hidden;
  Divide<T>(pool, sizes, [&](const Share& share, const auto& wait) {
    const Panels<T> matrix = PanelsOf<T>(panels, share.problem, 1);
    const int64_t rows = share.rows, first_state = share.problem * B + share.first_row;
    const int64_t units = share.last_unit - share.first_unit;
    std::vector<T> product(rows * matrix.width());
    std::vector<const T*> dz_rows(rows);
    // The results hold the gradients of the state on their way back.
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t at = (first_state + r) * H + share.first_unit;
      std::copy_n(dlast_h.typed_data() + at, units, dfirst_h->typed_data() + at);
      std::copy_n(dlast_c.typed_data() + at, units, dfirst_c->typed_data() + at);
      std::fill_n(dinitial_h->typed_data() + at, units, T(0));
      std::fill_n(dinitial_c->typed_data() + at, units, T(0));
    }
    for (int64_t n = 0; n < T_; ++n) {
      const int64_t t = reverse ? n : T_ - 1 - n;
      const int64_t first = (share.problem * T_ + t) * B + share.first_row;
      for (int64_t r = 0; r < rows; ++r) {
        const bool within = valid.typed_data()[first + r];
        const int64_t state = (first_state + r) * H, at = (first + r) * H;
        T* dz_row = dz->typed_data() + 4 * at;
        dz_rows[r] = dz_row;
        const T* old_c = initial_c.typed_data() + state;
        if (n + 1 == T_) {
          old_c = first_c.typed_data() + state;
        } else if (carried.typed_data()[first + r]) {
          old_c = new_c.typed_data() + at + (reverse ? B * H : -B * H);
        }
        for (int64_t j = share.first_unit; j < share.last_unit; j += kLanes<T>) {
          const int64_t lanes = H - j;
          T* dh_unit = dfirst_h->typed_data() + state + j;
          T* dc_unit = dfirst_c->typed_data() + state + j;
          if (!within) {
            for (int64_t gate = 0; gate < 4; ++gate) {
              Store(dz_row + gate * H + j, Vector<T>{}, lanes);
            }
            continue;
          }
          const Vector<T> dh =
              Load(dh_unit, lanes) + Load(dy.typed_data() + at + j, lanes);
          const T* gates_unit = gates.typed_data() + 4 * at + j;
          const Vector<T> i = Load(gates_unit, lanes);
          const Vector<T> f = Load(gates_unit + H, lanes);
          const Vector<T> o = Load(gates_unit + 2 * H, lanes);
          const Vector<T> g = Load(gates_unit + 3 * H, lanes);
          const Vector<T> a = Tanh<T>(Load(new_c.typed_data() + at + j, lanes));
          const Vector<T> c_prev = Load(old_c + j, lanes);
          const Vector<T> da = dh * o, d_o = dh * a;                         // (7)
          const Vector<T> dc = Load(dc_unit, lanes) + da * (T(1) - a * a);  // (6)
          const Vector<T> di = dc * g, dg = dc * i, df = dc * c_prev;        // (5)
          Store(dc_unit, dc * f, lanes);                                     // (5)
          Store(dz_row + j, di * i * (T(1) - i), lanes);                     // (3)
          Store(dz_row + H + j, df * f * (T(1) - f), lanes);                 // (3)
          Store(dz_row + 2 * H + j, d_o * o * (T(1) - o), lanes);            // (3)
          Store(dz_row + 3 * H + j, dg * (T(1) - g * g), lanes);             // (4)
        }
      }
      wait();  // for the rest of dz
      std::fill(product.begin(), product.end(), T(0));
      AddShare(share, dz_rows, matrix, product.data());  // (1), (2)
      for (int64_t r = 0; r < rows; ++r) {
        if (!valid.typed_data()[first + r]) continue;
        const int64_t at = (first_state + r) * H + share.first_unit;
        T* dh = dfirst_h->typed_data() + at;
        T* dc = dfirst_c->typed_data() + at;
        std::copy_n(product.data() + r * matrix.width() + share.first_unit, units, dh);
        if (carried.typed_data()[first + r]) continue;
        for (int64_t j = 0; j < units; ++j) {
          dinitial_h->typed_data()[at + j] += dh[j];
          dinitial_c->typed_data()[at + j] += dc[j];
        }
        std::fill_n(dh, units, T(0));
        std::fill_n(dc, units, T(0));
      }
    }
  });
  return ffi::Error::Success();
}

// --- their arguments and results ------------------------------------------------------

// `binding` with so many arrays of numbers, then of masks, as arguments, and so many
// arrays of numbers as results.
template <ffi::DataType kType, int kNumbers, int kMasks, int kResults, typename Binding>
auto Extend(Binding&& binding) {
  using Numbers = ffi::Buffer<kType>;
  if constexpr (kNumbers > 0) {
    return Extend<kType, kNumbers - 1, kMasks, kResults>(
        std::move(binding).template Arg<Numbers>());
  } else if constexpr (kMasks > 0) {
    return Extend<kType, 0, kMasks - 1, kResults>(
        std::move(binding).template Arg<ffi::Buffer<ffi::PRED>>());
  } else if constexpr (kResults > 1) {
    return Extend<kType, 0, 0, kResults - 1>(
        std::move(binding).template Ret<Numbers>());
  } else {
    return std::move(binding).template Ret<Numbers>();
  }
}

template <ffi::DataType kType, int kNumbers, int kResults>
auto Bind() {
  return Extend<kType, kNumbers, 2, kResults>(
      ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Attr<bool>("reverse"));
}

}  // namespace

#define DEFINE(bits)                                                             \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(LstmForwardF##bits, Forward<ffi::F##bits>,       \
                                (Bind<ffi::F##bits, 7, 5>()));                   \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(LstmBackwardF##bits, Backward<ffi::F##bits>,     \
                                (Bind<ffi::F##bits, 8, 5>()))

DEFINE(32);
DEFINE(64);
