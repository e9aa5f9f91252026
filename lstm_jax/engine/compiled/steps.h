// The sequential part of a gated cell over a stretch of time, forward and back, on CPUs.
//
// What a hidden unit computes stands in `Step` and `Reverse`, which are written from the
// cell's equations; this is what goes around them, with the masks of
// lstm_jax/engine/bptt.py. What makes it faster than a compiled scan: rows of the batch
// do not depend on each other, so each thread takes some of them through all steps, with
// nothing to wait for; the recurrent product and the equations of a step run while its
// numbers are in registers and the first cache; and a step's results go where what they
// came from was, so that nothing is copied.
//
// Before this file: `numbers.h`, `Step` and `Reverse`, and of the cell
//   kOwn, kStates, kU, kV, kKept   how many numbers a unit has of each
//   kFirst        how many of those that are kept lie in the first of two arrays
//   kDu, kDv      of the gradients of u and v; kDv is 0 where v's is u's
//   kDown         of the gradients of its own parameters, which `OwnGradients` gives; 0
//                 where that is done elsewhere
//   kRead[kReads] the fields of the state that `Reverse` reads, old or new

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <vector>

#include "threads.h"

namespace {

constexpr bool kRecurrent = kV > 0;

constexpr int kRest = kKept - kFirst;

// So many numbers; there are no arrays of none.
template <int count>
using Numbers = Real[count > 0 ? count : 1];

// --- a product of a few rows and a matrix ---------------------------------------------

// A matrix as `forward_panels` or `reverse_panels` of panels.py lays it out: panels of a
// vector's width, each row after row, so that a product reads it from one end to the
// other. Its columns are `groups` blocks, of which a vector each are neighbours.
struct Panels {
  const Scalar* values;
  int64_t count, rows, groups;

  // The number of panels with all columns of the first `units` of each group.
  int64_t before(int64_t units) const {
    return CeilOfRatio(units, kLanes) * groups;
  }

  int64_t width() const { return count * kLanes; }
};

// products (kRows, width) = rows (kRows, matrix.rows) times kPanels panels of the matrix:
// one chain of additions a vector, and there must be enough chains for the processor to
// have always one that is ready.
template <int kRows, int kPanels>
void MultiplyPanels(const Scalar* const* rows, const Panels& matrix, int64_t first,
                    Scalar* products) {
  const int64_t panel = matrix.rows * kLanes;
  const Scalar* from = matrix.values + first * panel;
  Scalar* to = products + first * kLanes;
  const Scalar* factors[kRows];
  std::copy_n(rows, kRows, factors);
  Values total[kRows][kPanels] = {};
  for (int64_t k = 0; k < matrix.rows; ++k, from += kLanes) {
    Values weights[kPanels];
    for (int p = 0; p < kPanels; ++p) weights[p] = Load(from + p * panel).values;
    for (int r = 0; r < kRows; ++r) {
      const Scalar factor = factors[r][k];
      for (int p = 0; p < kPanels; ++p) total[r][p] += factor * weights[p];
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int p = 0; p < kPanels; ++p) {
      Store(to + r * matrix.width() + p * kLanes, Real(total[r][p]));
    }
  }
}

constexpr int64_t kMostRows = kRowsOfSums;

// MultiplyPanels for panels `first` to `last`, more at once if the rows are few.
template <int kRows = kMostRows>
void MultiplyRows(int64_t count, const Scalar* const* rows, const Panels& matrix,
              int64_t first, int64_t last, Scalar* products) {
  if constexpr (kRows > 1) {
    if (count < kRows) {
      return MultiplyRows<kRows - 1>(count, rows, matrix, first, last, products);
    }
  }
  constexpr int kPanels = kRows < 4 ? 8 / kRows : 2;
  for (; first + kPanels <= last; first += kPanels) {
    MultiplyPanels<kRows, kPanels>(rows, matrix, first, products);
  }
  for (; first + 2 <= last; first += 2) {
    MultiplyPanels<kRows, 2>(rows, matrix, first, products);
  }
  if (first < last) MultiplyPanels<kRows, 1>(rows, matrix, first, products);
}

// --- who computes what ----------------------------------------------------------------

// The sizes of a call. A problem is a batch of sequences with its own weights.
struct Sizes {
  int64_t problems = 1, steps, batch, heads = 1, hidden;

  // From a mask (..., T, B), a state (..., B, H), panels (..., heads, count, rows, lanes).
  Sizes(const Array& mask, const Array& state, const Array* panels)
      : steps(FromLast(mask, 2)), batch(FromLast(mask, 1)), hidden(FromLast(state, 1)) {
    for (int64_t axis = 0; axis + 2 < mask.rank; ++axis) problems *= mask.dims[axis];
    if (panels) heads = FromLast(*panels, 4);
  }

  int64_t head() const { return hidden / heads; }
};

// What one thread computes at every step: some rows of a problem's batch, and of them
// some hidden units of a head. Those who share rows read of each other what they wrote.
struct Share {
  int64_t problem, head, first_row, rows, first_unit, last_unit;
};

// The n-th of `parts` parts of `whole`, as even as its multiples of `unit` allow.
inline int64_t Part(int64_t n, int64_t parts, int64_t whole, int64_t unit = 1) {
  const int64_t units = CeilOfRatio(whole, unit);
  return std::min(whole, n * units / parts * unit);
}

constexpr int64_t kCache = int64_t{1} << 20;  // bytes of a core's second-level cache
constexpr int64_t kManyRows = 16;  // of a thread: more, and weights may lie further away
constexpr int64_t kLeastWork = int64_t{1} << 17;  // products for which a wait pays
constexpr int64_t kRate = 25;  // products in a nanosecond, on one thread

// Calls run(share, wait) until everything is computed; all who share rows call wait()
// after each step.
//
// Rows do not depend on each other, nor do heads, so threads that divide these have
// nothing to wait for. But each reads all weights of a head at every step: where the
// cache does not hold these beside the rest, or rows and heads are too few for all
// threads, they divide the hidden units. Without a product a unit is like a head.
template <typename Run>
void Divide(const Call& call, const Sizes& sizes, const Run& run) {
  const int64_t threads = call.threads(), units = sizes.head();
  constexpr int64_t width = 2 * kLanes;  // of the panels that are multiplied together
  int64_t parts = CeilOfRatio(sizes.batch, kMostRows);
  parts = std::min(sizes.batch, CeilOfRatio(parts, threads) * threads);
  const int64_t work = sizes.batch * kV * units * units;
  const int64_t most = std::min(threads, CeilOfRatio(units, width));
  const int64_t members = std::min(most, work / kLeastWork);
  const int64_t weights = kV * units * units * int64_t{sizeof(Scalar)};
  const bool many_rows = sizes.batch >= threads * kManyRows;
  const bool large = weights > (many_rows ? 2 * kCache : kCache / 2);
  const int64_t alone = sizes.problems * sizes.heads * parts;
  if (kRecurrent && members > (large ? 1 : alone)) {
    // The pool may be busy for a moment. An eighth of what one thread would take alone is
    // little beside the half that a second one saves.
    constexpr int64_t kLeastPatience = 100'000;
    const std::chrono::nanoseconds patience(
        std::max(kLeastPatience, sizes.steps * work / kRate / 8));
    for (int64_t task = 0; task < sizes.problems * sizes.heads; ++task) {
      Together(call, members, patience, [&](int64_t member, Team& team) {
        auto unit = [&](int64_t n) { return Part(n, team.size(), units, width); };
        run(Share{task / sizes.heads, task % sizes.heads, 0, sizes.batch, unit(member),
                  unit(member + 1)},
            Waiting{&team});
      });
    }
    return;
  }
  const int64_t pieces = kRecurrent || alone >= threads ? 1 : most;
  ForEach(call, alone * pieces, [&](int64_t task) {
    const int64_t piece = task % pieces, part = task / pieces % parts;
    const int64_t head = task / pieces / parts;
    const int64_t first = Part(part, parts, sizes.batch);
    run(Share{head / sizes.heads, head % sizes.heads, first,
              Part(part + 1, parts, sizes.batch) - first,
              Part(piece, pieces, units, width), Part(piece + 1, pieces, units, width)},
        Waiting{});
  });
}

// The rows of a product, as Scalars that lie side by side.
class Rows {
 public:
  Rows(const Share& share, const Panels& matrix, int64_t blocks)
      : blocks_(blocks), size_(matrix.rows), starts_(share.rows) {}

  // A row of `blocks` blocks, which lie `stride` numbers apart.
  template <typename Number>
  void Set(int64_t row, const Number* from, int64_t stride) {
    if constexpr (std::is_same_v<Number, Scalar>) {
      if (blocks_ == 1 || stride * blocks_ == size_) {
        starts_[row] = from;
        return;
      }
    }
    copies_.resize(starts_.size() * size_);
    const int64_t units = size_ / blocks_;
    Scalar* to = copies_.data() + row * size_;
    starts_[row] = to;
    for (int64_t block = 0; block < blocks_; ++block, to += units) {
      for (int64_t j = 0; j < units; j += kLanes) {
        Store(to + j, Load(from + block * stride + j, units - j), units - j);
      }
    }
  }

  // products = rows times the matrix, for the hidden units of a share. Inlined it would be
  // compiled for each direction, and the equations beside it would be no faster.
  __attribute__((noinline)) void Multiply(const Share& share, const Panels& matrix,
                                          Scalar* products) const {
    constexpr int64_t kAtOnce = 16;  // panels, which stay in the cache for all rows
    const int64_t last = matrix.before(share.last_unit);
    for (int64_t p = matrix.before(share.first_unit); p < last; p += kAtOnce) {
      for (int64_t r = 0; r < share.rows; r += kMostRows) {
        MultiplyRows(std::min(kMostRows, share.rows - r), starts_.data() + r, matrix, p,
                     std::min(p + kAtOnce, last), products + r * matrix.width());
      }
    }
  }

 private:
  int64_t blocks_, size_;
  std::vector<const Scalar*> starts_;
  std::vector<Scalar> copies_;
};

// --- memory ---------------------------------------------------------------------------

// Asks the system for large pages where a large array is about to be written. The
// allocator returns what is so large after every call, and the next gets it anew, page by
// page: with 4 kB each that takes a fifth to a third of all time.
inline void AskForLargePages(const void* data, int64_t bytes) {
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t kPage = uintptr_t{1} << 21, kLeast = 2 * kPage;
  const auto begin = reinterpret_cast<uintptr_t>(data);
  const uintptr_t first = (begin + kPage - 1) / kPage * kPage;
  const uintptr_t last = (begin + bytes) / kPage * kPage;
  if (first + kLeast <= last) {  // a system that has none goes on without
    madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
  }
#endif
}

// Wx -> Wx, and an array of which nothing is read or written: where it lies, later ones
// will. What needs this Wx is computed afterwards.
void RunLargePages(const Call& call) {
  const Array& array = call.result(1);  // of bytes
  AskForLargePages(array.data, Count(array));
}

// --- arguments and results ------------------------------------------------------------

// The arrays of a call, one after the other.
class Arguments {
 public:
  explicit Arguments(const Call& call) : call_(call) {}

  const Array& Next() { return call_.argument(next_++); }
  template <typename Number>
  const Number* Next() {
    return static_cast<const Number*>(Next().data);
  }
  template <int count>
  std::array<const Stored*, count> Several() {
    std::array<const Stored*, count> found{};
    for (auto& one : found) one = Next<Stored>();
    return found;
  }

 private:
  const Call& call_;
  int64_t next_ = 0;
};

class Results {
 public:
  explicit Results(const Call& call) : call_(call) {}

  Stored* Next() {
    const Array& array = call_.result(next_++);
    AskForLargePages(array.data, Count(array) * sizeof(Stored));
    return static_cast<Stored*>(array.data);
  }
  template <int count>
  std::array<Stored*, count> Several() {
    std::array<Stored*, count> found{};
    for (auto& one : found) one = Next();
    return found;
  }
  Scalar* NextScalars() { return static_cast<Scalar*>(call_.result(next_++).data); }

 private:
  const Call& call_;
  int64_t next_ = 0;
};

// The panels of one head of one problem.
inline Panels PanelsOf(const Array& all, const Share& share, int64_t groups) {
  const int64_t heads = FromLast(all, 4), count = FromLast(all, 3), rows = FromLast(all, 2);
  const int64_t before = (share.problem * heads + share.head) * count * rows;
  return {static_cast<const Scalar*>(all.data) + before * kLanes, count, rows, groups};
}

// --- forward --------------------------------------------------------------------------

// panels (heads, count, H / heads, lanes) if there is a product, vectors (b and the own
// parameters), initial and entry states (B, H), u without b (T B, kU H; Scalars), valid and
// carried (T, B) -> final states (B, H), states (T, B, H), kept (T B, kFirst H) and the
// rest of it (T B, kRest H), each if there is any.
void RunForward(const Call& call) {
  const bool reverse = call.flag(0);
  Arguments in(call);
  Results out(call);
  const Array* panels = kRecurrent ? &in.Next() : nullptr;
  const Scalar* vectors = in.Next<Scalar>();
  const auto initial = in.Several<kStates>();
  const Array& like = call.argument(kRecurrent + 1);
  const auto entry = in.Several<kStates>();
  const Scalar* u = in.Next<Scalar>();
  const Array& mask = in.Next();
  const bool* valid = static_cast<const bool*>(mask.data);
  const bool* carried = in.Next<bool>();
  const auto last = out.Several<kStates>(), new_ = out.Several<kStates>();
  Stored* kept = kFirst ? out.Next() : nullptr;
  Stored* rest = kRest ? out.Next() : nullptr;

  const Sizes sizes(mask, like, panels);
  const int64_t T = sizes.steps, B = sizes.batch, H = sizes.hidden, n = sizes.head();
  Divide(call, sizes, [&](const Share& share, const Waiting& wait) {
    const Panels matrix = panels ? PanelsOf(*panels, share, kV) : Panels{};
    const int64_t rows = share.rows, first_state = share.problem * B + share.first_row;
    const int64_t head = share.head * n;
    const Scalar* bias = vectors + share.problem * (kU + kOwn) * H + head;
    const Scalar* own = bias + kU * H;
    Rows h(share, matrix, 1);
    std::vector<Scalar> v(rows * matrix.width());
    // Of each row, the state before a step, and what the step starts from.
    std::vector<std::array<const Stored*, kStates>> state(rows), old(rows);
    for (int64_t r = 0; r < rows; ++r) {
      for (int s = 0; s < kStates; ++s) {
        state[r][s] = entry[s] + (first_state + r) * H + head;
      }
    }
    for (int64_t done = 0; done < T; ++done) {
      const int64_t t = reverse ? T - 1 - done : done;
      const int64_t first = (share.problem * T + t) * B + share.first_row;
      for (int64_t r = 0; r < rows; ++r) {
        const bool carry = carried[first + r];
        for (int s = 0; s < kStates; ++s) {
          old[r][s] = carry ? state[r][s] : initial[s] + (first_state + r) * H + head;
        }
        if constexpr (kRecurrent) h.Set(r, old[r][0], H);
      }
      if constexpr (kRecurrent) h.Multiply(share, matrix, v.data());
      for (int64_t r = 0; r < rows; ++r) {
        const bool within = valid[first + r];
        const int64_t to = (first + r) * H + head;
        const Scalar* u_row = u + (first + r) * kU * H + head;
        Stored* kept_row = kept + (first + r) * kFirst * H + head;
        Stored* rest_row = rest + (first + r) * kRest * H + head;
        const Scalar* v_row = v.data() + r * matrix.width();
        for (int64_t j = share.first_unit; j < share.last_unit; j += kLanes) {
          const int64_t lanes = n - j;
          Numbers<kOwn> p;
          Numbers<kStates> before, after;
          Numbers<kU> input;
          Numbers<kV> recurrent;
          Numbers<kKept> keep;
          for (int k = 0; k < kOwn; ++k) p[k] = Load(own + k * H + j, lanes);
          for (int k = 0; k < kStates; ++k) before[k] = Load(old[r][k] + j, lanes);
          for (int k = 0; k < kU; ++k) {
            input[k] = Load(u_row + k * H + j, lanes) + Load(bias + k * H + j, lanes);
          }
          for (int k = 0; k < kV; ++k) recurrent[k] = Load(v_row + kV * j + k * kLanes);
          Step(p, before, input, recurrent, after, keep);
          for (int k = 0; k < kKept; ++k) {
            Stored* to = k < kFirst ? kept_row + k * H : rest_row + (k - kFirst) * H;
            Store(to + j, keep[k], lanes);
          }
          for (int k = 0; k < kStates; ++k) {
            Store(new_[k] + to + j, within ? after[k] : Load(state[r][k] + j, lanes), lanes);
          }
        }
        for (int s = 0; s < kStates; ++s) state[r][s] = new_[s] + to;
      }
      wait();  // for the rest of h
    }
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t j = share.first_unit, units = share.last_unit - j;
      for (int s = 0; s < kStates; ++s) {
        std::copy_n(state[r][s] + j, units, last[s] + (first_state + r) * H + head + j);
      }
    }
  });
}

// --- its reverse ----------------------------------------------------------------------

// panels (heads, count, kV H / heads, lanes) if there is a product, vectors as above,
// the gradients of the last states (B, H), of each field that is read the initial and
// the first state (B, H), dy (T, B, H), of each field that is read the states (T, B, H),
// what is kept, as above, valid and carried (T, B) -> the gradients of the first and of the
// initial states (B, H), those of the own parameters by row (B, H; Scalars), du
// (T B, kDu H), dv (T B, kDv H) if it is not du.
void RunBackward(const Call& call) {
  const bool reverse = call.flag(0);
  Arguments in(call);
  Results out(call);
  const Array* panels = kRecurrent ? &in.Next() : nullptr;
  const Scalar* vectors = in.Next<Scalar>();
  const Array& like = call.argument(kRecurrent + 1);
  const auto dlast = in.Several<kStates>();
  const auto initial = in.Several<kReads>(), start = in.Several<kReads>();
  const Stored* dy = in.Next<Stored>();
  const auto new_ = in.Several<kReads>();
  const Stored* kept = kFirst ? in.Next<Stored>() : nullptr;
  const Stored* rest = kRest ? in.Next<Stored>() : nullptr;
  const Array& mask = in.Next();
  const bool* valid = static_cast<const bool*>(mask.data);
  const bool* carried = in.Next<bool>();
  const auto dfirst = out.Several<kStates>(), dinitial = out.Several<kStates>();
  std::array<Scalar*, kDown> down{};
  for (auto& one : down) one = out.NextScalars();
  Stored* du = out.Next();
  Stored* dv = kDv ? out.Next() : nullptr;
  // v's gradient, which goes back through the product.
  Stored* through = kDv ? dv : du;

  const Sizes sizes(mask, like, panels);
  const int64_t T = sizes.steps, B = sizes.batch, H = sizes.hidden, n = sizes.head();
  Divide(call, sizes, [&](const Share& share, const Waiting& wait) {
    const Panels matrix = panels ? PanelsOf(*panels, share, 1) : Panels{};
    const int64_t rows = share.rows, first_state = share.problem * B + share.first_row;
    const int64_t head = share.head * n;
    const Scalar* own = vectors + (share.problem * (kU + kOwn) + kU) * H + head;
    Rows d(share, matrix, kV ? kV : 1);
    std::vector<Scalar> product(rows * matrix.width());
    // The gradients of the state on their way back, and of what resets return to.
    std::vector<Scalar> dstate(rows * kStates * n), dreset(dstate.size());
    std::vector<Scalar> down_rows(rows * kDown * n);
    for (int64_t r = 0; r < rows; ++r) {
      for (int s = 0; s < kStates; ++s) {
        const Stored* from = dlast[s] + (first_state + r) * H + head;
        Scalar* to = dstate.data() + (r * kStates + s) * n;
        for (int64_t j = share.first_unit; j < share.last_unit; j += kLanes) {
          Store(to + j, Load(from + j, n - j), n - j);
        }
      }
    }
    for (int64_t done = 0; done < T; ++done) {
      const int64_t t = reverse ? done : T - 1 - done;
      const int64_t first = (share.problem * T + t) * B + share.first_row;
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t row = first + r, at = row * H + head;
        const int64_t state = (first_state + r) * H + head;
        Stored* du_row = du + row * kDu * H + head;
        Stored* dv_row = dv + row * kDv * H + head;
        const Stored* kept_row = kept + row * kFirst * H + head;
        const Stored* rest_row = rest + row * kRest * H + head;
        std::array<const Stored*, kReads> old;
        for (int k = 0; k < kReads; ++k) {
          old[k] = initial[k] + state;
          if (done + 1 == T) {
            old[k] = start[k] + state;
          } else if (carried[row]) {
            old[k] = new_[k] + at + (reverse ? B * H : -B * H);
          }
        }
        Scalar* dstate_row = dstate.data() + r * kStates * n;
        for (int64_t j = share.first_unit; j < share.last_unit; j += kLanes) {
          const int64_t lanes = n - j;
          if (!valid[row]) {
            for (int k = 0; k < kDu; ++k) Store(du_row + k * H + j, Real(0), lanes);
            for (int k = 0; k < kDv; ++k) Store(dv_row + k * H + j, Real(0), lanes);
            continue;
          }
          Numbers<kOwn> p;
          Numbers<kStates> before, after, dnew, dold;
          Numbers<kKept> keep;
          Numbers<kDu> dinput;
          Numbers<kDv> drecurrent;
          for (int k = 0; k < kOwn; ++k) p[k] = Load(own + k * H + j, lanes);
          for (int k = 0; k < kReads; ++k) {
            before[kRead[k]] = Load(old[k] + j, lanes);
            after[kRead[k]] = Load(new_[k] + at + j, lanes);
          }
          for (int k = 0; k < kStates; ++k) dnew[k] = Load(dstate_row + k * n + j, lanes);
          dnew[0] = dnew[0] + Load(dy + at + j, lanes);
          for (int k = 0; k < kKept; ++k) {
            const Stored* from = k < kFirst ? kept_row + k * H : rest_row + (k - kFirst) * H;
            keep[k] = Load(from + j, lanes);
          }
          Reverse(p, before, after, keep, dnew, dold, dinput, drecurrent);
          for (int k = 0; k < kStates; ++k) Store(dstate_row + k * n + j, dold[k], lanes);
          for (int k = 0; k < kDu; ++k) Store(du_row + k * H + j, dinput[k], lanes);
          for (int k = 0; k < kDv; ++k) Store(dv_row + k * H + j, drecurrent[k], lanes);
          if constexpr (kDown > 0) {
            Numbers<kDown> more;
            OwnGradients(p, before, after, keep, dnew, more);
            Scalar* sums = down_rows.data() + r * kDown * n + j;
            for (int k = 0; k < kDown; ++k) {
              Store(sums + k * n, Load(sums + k * n, lanes) + more[k], lanes);
            }
          }
        }
      }
      wait();  // for the rest of dv
      if constexpr (kRecurrent) {
        for (int64_t r = 0; r < rows; ++r) {
          d.Set(r, through + (first + r) * kV * H + head, H);
        }
        d.Multiply(share, matrix, product.data());
      }
      for (int64_t r = 0; r < rows; ++r) {
        if (!valid[first + r]) continue;
        Scalar* dstate_row = dstate.data() + r * kStates * n;
        if constexpr (kRecurrent) {
          const Scalar* dh = product.data() + r * matrix.width();
          for (int64_t j = share.first_unit; j < share.last_unit; ++j) {
            dstate_row[j] += dh[j];
          }
        }
        if (carried[first + r]) continue;
        for (int64_t j = 0; j < kStates * n; ++j) {
          dreset[r * kStates * n + j] += dstate_row[j];
          dstate_row[j] = 0;
        }
      }
    }
    for (int64_t r = 0; r < rows; ++r) {
      for (int s = 0; s < kStates; ++s) {
        const int64_t to = (first_state + r) * H + head, from = (r * kStates + s) * n;
        for (int64_t j = share.first_unit; j < share.last_unit; j += kLanes) {
          Store(dfirst[s] + to + j, Load(dstate.data() + from + j, n - j), n - j);
          Store(dinitial[s] + to + j, Load(dreset.data() + from + j, n - j), n - j);
        }
      }
      for (int k = 0; k < kDown; ++k) {
        const int64_t j = share.first_unit, from = (r * kDown + k) * n;
        std::copy_n(down_rows.data() + from + j, share.last_unit - j,
                    down[k] + (first_state + r) * H + head + j);
      }
    }
  });
}

}  // namespace

extern "C" XLA_FFI_Error* LargePages(XLA_FFI_CallFrame* frame) {
  return Handle(*frame, {1, 2, 0}, RunLargePages);
}

extern "C" XLA_FFI_Error* Forward(XLA_FFI_CallFrame* frame) {
  constexpr Signature kForward{kRecurrent + 2 * kStates + 4,
                               2 * kStates + (kFirst > 0) + (kRest > 0), 1};
  return Handle(*frame, kForward, RunForward);
}

extern "C" XLA_FFI_Error* Backward(XLA_FFI_CallFrame* frame) {
  constexpr Signature kBackward{
      kRecurrent + kStates + 3 * kReads + (kFirst > 0) + (kRest > 0) + 4,
      2 * kStates + kDown + 1 + (kDv > 0), 1};
  return Handle(*frame, kBackward, RunBackward);
}
