// The product of a step: rows of a few numbers each, times a matrix that stays on chip.
//
// `Product<kDepth, kColumns>` multiplies ROWS rows of kDepth numbers in shared memory by
// a (kDepth, kColumns) matrix that its block's threads hold, in registers but for the
// last STASHED pieces of each, which are in shared memory. Two ways with one interface:
//
//   TENSOR == 0: plain multiply-adds. A thread has COLUMNS columns of a SPLIT-th of the
//     rows of the matrix; SPLIT neighbouring lanes share out their sums by shuffles.
//   TENSOR == 1: tensor cores. A warp has COLUMNS tiles of 16 columns, of a SPLIT-th of
//   the
//     rows; the SPLIT partial sums are left to whoever reads them.
//
// kSlots says how many partial sums there are, place(k) where a row keeps its k-th
// number, kStride how far rows are apart.

// The sum of terms, pairs first: few wait for the one before.
template <int kCount, typename Term>
__device__ __forceinline__ real total(const Term& term, int first = 0) {
  if constexpr (kCount == 1) {
    return term(first);
  } else {
    constexpr int half = kCount / 2;
    return total<half>(term, first) + total<kCount - half>(term, first + half);
  }
}

// How many of `count` things a lane has left when `lanes` have shared them out: halves
// while that goes.
__device__ constexpr int left(int count, int lanes) {
  return lanes > 1 && count % 2 == 0 ? left(count / 2, lanes / 2) : count;
}
// How many lanes have the same ones then.
__device__ constexpr int copies(int count, int lanes) {
  return lanes > 1 && count % 2 == 0 ? copies(count / 2, lanes / 2) : lanes;
}
// The first of those that one of the lanes has.
__device__ constexpr int first_left(int count, int lanes, int lane) {
  if (lanes == 1 || count % 2 == 1) return 0;
  const int first = lane & (lanes / 2) ? count / 2 : 0;
  return first + first_left(count / 2, lanes / 2, lane);
}

#if TENSOR

template <int kDepth, int kColumns>
struct Product {
  static constexpr int kSlots = SPLIT, kWarps = THREADS / 32;
  static constexpr int kPieces =
      ((kDepth + 15) / 16 + SPLIT - 1) / SPLIT;  // of 16 rows, a warp
  static constexpr int kWidth = kPieces * SPLIT * 16;
  static constexpr int kStride =
      kWidth % 32 == 16 ? kWidth : kWidth + 16;  // no conflicts
  static constexpr int kInRegisters = kPieces - STASHED;
  static constexpr int kStash = STASHED * COLUMNS * 2 * THREADS;  // of four numbers
  static constexpr int kRowTiles = ROWS / 8;
  static constexpr bool kWhole =
      kWidth == kDepth && kWarps / SPLIT * COLUMNS * 16 == kColumns;
  static_assert(kWarps % SPLIT == 0 && kWarps / SPLIT * COLUMNS * 16 >= kColumns, "tile");
  static_assert(ROWS % 8 == 0 && kInRegisters >= 0, "tile");

  float matrix[COLUMNS][kInRegisters > 0 ? kInRegisters : 1][2][4];
  Four* stash;
  int lane, part, column;

  static __device__ constexpr int place(int k) { return k; }
  static __device__ __forceinline__ float operand(float x) { return tensor_float(x); }

  // Reads the matrix, (k, n) from `entry`; 0 beyond its edges.
  template <typename Entry>
  __device__ __forceinline__ Product(int thread, Four* stash, const Entry& entry)
      : stash(stash + thread),
        lane(thread % 32),
        part(thread / 32 / (kWarps / SPLIT)),
        column(thread / 32 % (kWarps / SPLIT) * COLUMNS * 16 + lane / 4) {
    auto at = [&](int k, int n) {
      return kWhole || (k < kDepth && n < kColumns) ? tensor_float(entry(k, n)) : 0.f;
    };
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
#pragma unroll
      for (int c = 0; c < COLUMNS; ++c) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int k = (part * kPieces + piece) * 16 + lane % 4 * 4 + half * 2;
          const int n = column + c * 16;
          const float a[4] = {at(k, n), at(k, n + 8), at(k + 1, n), at(k + 1, n + 8)};
          if (piece < kInRegisters) {
#pragma unroll
            for (int i = 0; i < 4; ++i)
              matrix[c][piece < kInRegisters ? piece : 0][half][i] = a[i];
          } else {
            this->stash[(((piece - kInRegisters) * COLUMNS + c) * 2 + half) * THREADS] = {
                a[0], a[1], a[2], a[3]};
          }
        }
      }
    }
  }

  // Calls result(slot, row, n, sum) for its share of all sums.
  template <typename Result>
  __device__ __forceinline__ void operator()(const float* rows,
                                             const Result& result) const {
    float sums[2][COLUMNS][kRowTiles]
              [4];  // two each, so that none waits for the one before
#pragma unroll
    for (int i = 0; i < 2 * COLUMNS * kRowTiles * 4; ++i) (&sums[0][0][0][0])[i] = 0.f;
    const float* mine = rows + lane / 4 * kStride + part * kPieces * 16 + lane % 4 * 4;
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      Four x[kRowTiles];
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile)
        x[tile] = *reinterpret_cast<const Four*>(mine + tile * 8 * kStride + piece * 16);
#pragma unroll
      for (int c = 0; c < COLUMNS; ++c) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float a[4];
          if (piece < kInRegisters) {
#pragma unroll
            for (int i = 0; i < 4; ++i)
              a[i] = matrix[c][piece < kInRegisters ? piece : 0][half][i];
          } else {
            const Four four =
                stash[(((piece - kInRegisters) * COLUMNS + c) * 2 + half) * THREADS];
            a[0] = four.x, a[1] = four.y, a[2] = four.z, a[3] = four.w;
          }
#pragma unroll
          for (int tile = 0; tile < kRowTiles; ++tile)
            multiply_add(sums[half][c][tile], a, half ? x[tile].z : x[tile].x,
                         half ? x[tile].w : x[tile].y);
        }
      }
    }
#pragma unroll
    for (int c = 0; c < COLUMNS; ++c) {
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int n = column + c * 16 + i / 2 * 8;
          if (n < kColumns)
            result(part, tile * 8 + lane % 4 * 2 + i % 2, n,
                   sums[0][c][tile][i] + sums[1][c][tile][i]);
        }
      }
    }
  }
};

#else

// Sums over `kLanes` neighbouring lanes, shared out as `left` has it: each lane has
// kCount times kEach numbers before.
template <int kCount, int kLanes, int kEach>
__device__ __forceinline__ void spread_sum(real* sums, int lane) {
  if constexpr (kLanes > 1 && kCount % 2 == 0) {
    constexpr int half = kCount / 2 * kEach;
    const bool upper = lane & (kLanes / 2);
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const real sent = chosen(upper, sums[i], sums[i + half]),
                 own = chosen(upper, sums[i + half], sums[i]);
      sums[i] = own + from_lane_xor(sent, kLanes / 2);
    }
    spread_sum<kCount / 2, kLanes / 2, kEach>(sums, lane);
  } else if constexpr (kLanes > 1) {
#pragma unroll
    for (int i = 0; i < kCount * kEach; ++i)
      sums[i] += from_lane_xor(sums[i], kLanes / 2);
    spread_sum<kCount, kLanes / 2, kEach>(sums, lane);
  }
}

template <int kDepth, int kColumns>
struct Product {
  static constexpr int kSlots = 1;
  static constexpr int kPieces =
      ((kDepth + SPLIT - 1) / SPLIT + 3) / 4;     // of 4 rows, a thread
  static constexpr int kGap = 16 / sizeof(real);  // against bank conflicts
  static constexpr int kStride = SPLIT * (kPieces * 4 + kGap);
  static constexpr int kInRegisters = kPieces - STASHED;
  static constexpr int kStash = STASHED * COLUMNS * THREADS;  // of four numbers
  static constexpr bool kWhole =
      SPLIT * kPieces * 4 == kDepth && THREADS / SPLIT * COLUMNS == kColumns;
  static_assert(SPLIT <= 32 && THREADS / SPLIT * COLUMNS >= kColumns && kInRegisters >= 0,
                "tile");

  real matrix[kInRegisters > 0 ? kInRegisters : 1][4][COLUMNS];
  Four* stash;
  int lane, column;

  static __device__ constexpr int place(int k) {
    return k / (kPieces * 4) * (kPieces * 4 + kGap) + k % (kPieces * 4);
  }
  static __device__ __forceinline__ real operand(real x) { return x; }

  template <typename Entry>
  __device__ __forceinline__ Product(int thread, Four* stash, const Entry& entry)
      : stash(stash + thread), lane(thread % SPLIT), column(thread / SPLIT * COLUMNS) {
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
#pragma unroll
      for (int c = 0; c < COLUMNS; ++c) {
        real a[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int k = (lane * kPieces + piece) * 4 + i, n = column + c;
          a[i] = kWhole || (k < kDepth && n < kColumns) ? entry(k, n) : real(0);
          if (piece < kInRegisters) matrix[piece < kInRegisters ? piece : 0][i][c] = a[i];
        }
        if (piece >= kInRegisters)
          this->stash[((piece - kInRegisters) * COLUMNS + c) * THREADS] = {a[0], a[1],
                                                                           a[2], a[3]};
      }
    }
  }

  // The sums of all rows times the thread's columns, of which kEach that are neighbours
  // stay together when the lanes share them out.
  template <int kEach>
  __device__ __forceinline__ void sum(const real* rows, real* sums) const {
    // Few sums are divided: each term would wait for the one before.
    constexpr int count = ROWS * COLUMNS, chains = count < 2 ? 4 : count < 4 ? 2 : 1;
    real parts[chains][count];
#pragma unroll
    for (int i = 0; i < chains * count; ++i) (&parts[0][0])[i] = real(0);
    const real* mine = rows + lane * (kPieces * 4 + kGap);
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      real a[4][COLUMNS];
#pragma unroll
      for (int c = 0; c < COLUMNS; ++c) {
        if (piece < kInRegisters) {
#pragma unroll
          for (int i = 0; i < 4; ++i)
            a[i][c] = matrix[piece < kInRegisters ? piece : 0][i][c];
        } else {
          const Four four = stash[((piece - kInRegisters) * COLUMNS + c) * THREADS];
          a[0][c] = four.x, a[1][c] = four.y, a[2][c] = four.z, a[3][c] = four.w;
        }
      }
#pragma unroll
      for (int row = 0; row < ROWS; ++row) {
        const Four x = *reinterpret_cast<const Four*>(mine + row * kStride + piece * 4);
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c) {
          const int at = row * COLUMNS + c;
          parts[0][at] += a[0][c] * x.x;
          parts[1 % chains][at] += a[1][c] * x.y;
          parts[2 % chains][at] += a[2][c] * x.z;
          parts[3 % chains][at] += a[3][c] * x.w;
        }
      }
    }
#pragma unroll
    for (int i = 0; i < count; ++i)
      sums[i] = total<chains>([&](int chain) { return parts[chain][i]; });
    spread_sum<ROWS * COLUMNS / kEach, SPLIT, kEach>(sums, lane);
  }

  template <typename Result>
  __device__ __forceinline__ void operator()(const real* rows,
                                             const Result& result) const {
    constexpr int count = ROWS * COLUMNS;
    real sums[count];
    sum<1>(rows, sums);
    const int first = first_left(count, SPLIT, lane);
#pragma unroll
    for (int i = 0; i < left(count, SPLIT); ++i) {
      const int at = first + i, n = column + at % COLUMNS;
      if (lane % copies(count, SPLIT) == 0 && n < kColumns)
        result(0, at / COLUMNS, n, sums[i]);
    }
  }
};

#endif
