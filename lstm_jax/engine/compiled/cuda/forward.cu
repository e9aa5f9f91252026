// The steps of a gated cell over all time.
//
// u (..., T, B, U H) and the recurrent weights, the cell's own parameters (..., H), the
// states that the steps start from (..., B, H), masks (..., T, B) -> the states after all
// steps and what the cell keeps of them, (..., T, B, H) each.

enum {
  IN_U,
  IN_WEIGHTS,
  IN_OWN,
  IN_ENTRY = IN_OWN + P,
  IN_RESET = IN_ENTRY + S,
  IN_VALID = IN_RESET + RESETS * S,
  IN_CARRIED = IN_VALID + MASKED,
  IN_COUNTER = IN_CARRIED + RESETS,
  OUT_STATES = IN_COUNTER + (FORM == GRID),
  OUT_KEPT = OUT_STATES + S,
  OUT_SCRATCH = OUT_KEPT + K,
  OUT_COUNTER = OUT_SCRATCH + (FORM == GRID),
  ARRAYS = OUT_COUNTER + (FORM == GRID)
};

using Arguments = Arrays<ARRAYS>;

using Recurrent = Product<H, V * UNITS>;

enum {
  AHEAD_U,
  AHEAD_VALID = U,
  AHEAD_CARRIED = AHEAD_VALID + MASKED,
  FIELDS = AHEAD_CARRIED + RESETS
};

struct Shared {
  __align__(16) real rows[2][ROWS * Recurrent::kStride];  // what the product is of
#if !DIRECT
  __align__(16) real v[Recurrent::kSlots][ROWS][V * UNITS + 4];
#endif
  __align__(16) Four stash[Recurrent::kStash + 1];
  Ahead<FIELDS> ahead;
  Mailbox boxes[2];
};
static_assert(sizeof(Shared) <= SHARED_BYTES, "shared memory");

extern "C" __global__ void __launch_bounds__(THREADS, 1) run(const Arguments a) {
  SHARED(Shared, shared);
  const Place place(a.sizes);
  const bool reverse = a.sizes.reverse;
  const int steps = a.sizes.steps;
  const int thread = place.thread;

  const Recurrent product(thread, shared.stash, [&](int k, int n) {
#if DIRECT  // all that belongs to a unit side by side
    const int block = n % V, unit = place.rank * UNITS + n / V;
#else
    const int block = n / UNITS, unit = place.rank * UNITS + n % UNITS;
#endif
    if (H % BLOCKS != 0 && unit >= H) return real(0);
    return read(a.in(IN_WEIGHTS)[place.weight(k, block, unit)]);
  });
#if FORM == CLUSTER
  Team team(shared.boxes, place.rows * H * sizeof(real));
#elif FORM == GRID
  Team team(static_cast<unsigned*>(a.arrays[OUT_COUNTER]) + place.team);
  real* const given =
      static_cast<real*>(a.arrays[OUT_SCRATCH]) + (size_t)place.team * 2 * ROWS * H;
#else
  Team team;
#endif

  for (int i = thread; i < 2 * ROWS * Recurrent::kStride; i += THREADS)
    (&shared.rows[0][0])[i] = real(0);
  __syncthreads();
  const int first = place.step(0, reverse);
  for (int i = thread; i < place.rows * H; i += THREADS) {
    const int row = i / H, unit = i % H;
    const value* from = a.in(IN_ENTRY);
#if RESETS
    if (!a.truth(IN_CARRIED)[place.mask(first, row)]) from = a.in(IN_RESET);
#endif
    shared.rows[0][row * Recurrent::kStride + Recurrent::place(unit)] =
        Recurrent::operand(read(from[place.state(row, unit)]));
  }

  // Of each of the thread's elements, the state.
  real state[EACH][S], own[EACH][P + 1];
#if RESETS
  real initial[EACH][S];
  bool carried[EACH];
#endif
  auto start_copies = [&](int n) {
#pragma unroll
    for (int each = 0; each < EACH; ++each) {
      const Element element(place, each);
      if (!element.exists || n >= steps) continue;
      const int t = place.step(n, reverse);
#pragma unroll
      for (int i = 0; i < U; ++i)
        copy_ahead(&shared.ahead.slot(n, AHEAD_U + i, element), a.in(IN_U),
                   place.sequence(t, element.row, U, i, element.unit));
#if MASKED
      copy_ahead(&shared.ahead.slot(n, AHEAD_VALID, element), a.truth(IN_VALID),
                 place.mask(t, element.row));
#endif
#if RESETS  // whether the next step's state comes from this one's
      if (n + 1 < steps)
        copy_ahead(&shared.ahead.slot(n, AHEAD_CARRIED, element), a.truth(IN_CARRIED),
                   place.mask(place.step(n + 1, reverse), element.row));
#endif
    }
    end_copies();
  };
#pragma unroll
  for (int n = 0; n < AHEAD; ++n) start_copies(n);
#pragma unroll
  for (int each = 0; each < EACH; ++each) {
    const Element element(place, each);
    if (!element.exists) continue;
    const size_t at = place.state(element.row, element.unit);
#pragma unroll
    for (int i = 0; i < S; ++i) state[each][i] = read(a.in(IN_ENTRY + i)[at]);
#pragma unroll
    for (int i = 0; i < P; ++i)
      own[each][i] = read(a.in(IN_OWN + i)[place.own(element.unit)]);
#if RESETS
#pragma unroll
    for (int i = 0; i < S; ++i) initial[each][i] = read(a.in(IN_RESET + i)[at]);
    carried[each] = a.truth(IN_CARRIED)[place.mask(first, element.row)];
#endif
  }
  team.start();

  for (int n = 0; n < steps; ++n) {
    const int t = place.step(n, reverse);
    const bool more = n + 1 < steps;
#if DIRECT
    real sums[ROWS * COLUMNS];
    product.template sum<V>(shared.rows[n % 2], sums);
#else
    product(shared.rows[n % 2], [&](int slot, int row, int column, real sum) {
      shared.v[slot][row][column] = sum;
    });
    __syncthreads();
#endif
    wait_for_copies<AHEAD - 1>();
    real kept[EACH][K + 1];
#pragma unroll
    for (int each = 0; each < EACH; ++each) {
      const Element element(place, each);
      if (!element.exists) continue;
      real u[U], v[V], old[S], made[S];
#pragma unroll
      for (int i = 0; i < U; ++i)
        u[i] = read(copied<value>(shared.ahead.slot(n, AHEAD_U + i, element),
                                  place.sequence(t, element.row, U, i, element.unit)));
#pragma unroll
      for (int i = 0; i < V; ++i) {
#if DIRECT
        v[i] = sums[each * V + i];
#else
        v[i] = shared.v[0][element.row][i * UNITS + element.local];
#pragma unroll
        for (int slot = 1; slot < Recurrent::kSlots; ++slot)
          v[i] += shared.v[slot][element.row][i * UNITS + element.local];
#endif
      }
#pragma unroll
      for (int i = 0; i < S; ++i) {
        old[i] = state[each][i];
#if RESETS
        if (!carried[each]) old[i] = initial[each][i];
#endif
      }
      step(own[each], old, u, v, made, kept[each]);
      bool valid = true;
#if MASKED
      valid = copied<unsigned char>(shared.ahead.slot(n, AHEAD_VALID, element),
                                    place.mask(t, element.row));
#endif
#pragma unroll
      for (int i = 0; i < S; ++i)
        if (valid) state[each][i] = made[i];
      real h = state[each][0];
#if RESETS
      if (more)
        carried[each] =
            copied<unsigned char>(shared.ahead.slot(n, AHEAD_CARRIED, element),
                                  place.mask(place.step(n + 1, reverse), element.row));
      if (!carried[each]) h = initial[each][0];
#endif
      h = Recurrent::operand(h);
#if FORM == GRID
      if (element.copy == 0)
        team.give(given + (n % 2 * ROWS + element.row) * H + element.unit, 0, h, n);
#else
      real* const there = &shared.rows[(n + 1) % 2][element.row * Recurrent::kStride +
                                                    Recurrent::place(element.unit)];
#pragma unroll
      for (int rank = 0; rank < BLOCKS; rank += COPIES)
        if (rank + element.copy < BLOCKS) team.give(there, rank + element.copy, h, n);
#endif
    }
#pragma unroll
    for (int each = 0; each < EACH; ++each) {
      const Element element(place, each);
      if (!element.exists || element.copy > 0) continue;
      const size_t at = place.sequence(t, element.row, 1, 0, element.unit);
#pragma unroll
      for (int i = 0; i < S; ++i) a.out(OUT_STATES + i)[at] = written(state[each][i]);
#pragma unroll
      for (int i = 0; i < K; ++i) a.out(OUT_KEPT + i)[at] = written(kept[each][i]);
    }
    start_copies(n + AHEAD);
    team.receive(n);
#if FORM == GRID
    for (int i = thread; i < place.rows * H; i += THREADS)
      shared.rows[(n + 1) % 2][i / H * Recurrent::kStride + Recurrent::place(i % H)] =
          fetch(given + n % 2 * ROWS * H + i);
    __syncthreads();
#endif
  }
  team.end();
}
