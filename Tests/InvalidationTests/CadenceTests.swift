import Testing

@testable import Invalidation

/// How often the tailer beats, and a host asks.
@Suite("The cadence of beats")
struct CadenceTests {
  @Test(
    "At rest it is a sixth of the bound, from 100 to 300 ms; two beats and a poll are at most half the bound",
    arguments: [
      (UInt64(300), UInt64(100)), (500, 100), (600, 100), (900, 150), (1500, 250), (2000, 300),
      (60_000, 300),
    ])
  func resting(bound: UInt64, period: UInt64) {
    let cadence = Cadence(bound: bound * 1_000_000)
    #expect(cadence.resting == period * 1_000_000)
    #expect(bound < 600 || 3 * cadence.resting <= bound * 1_000_000 / 2)
    let quiet = Instant(nanoseconds: 7_000_000_000)
    #expect(cadence.period(quietSince: quiet, now: quiet) == Cadence.busy)
    let almost = Instant(nanoseconds: quiet.nanoseconds + Cadence.patience - 1)
    #expect(cadence.period(quietSince: quiet, now: almost) == Cadence.busy)
    let rested = Instant(nanoseconds: quiet.nanoseconds + Cadence.patience)
    #expect(cadence.period(quietSince: quiet, now: rested) == period * 1_000_000)
  }

  /// How many milliseconds lie between the next two beats.
  private func distance(_ tail: inout Tail) -> UInt64 {
    var beats: [Instant] = []
    while beats.count < 3 {
      for action in tail.settle() {
        if case .apply(let request, _) = action, let sampled = request.sampled { beats.append(sampled) }
      }
      tail.pass(milliseconds: 1)
    }
    return beats[2].since(beats[1]) / 1_000_000
  }

  @Test("A session beats more seldom once nothing has come for 5 s, until a transaction or a generation does")
  func session() {
    var tail = Tail()
    #expect(distance(&tail) == 100)
    tail.session.cadence = Cadence(bound: 2_000_000_000)
    #expect(distance(&tail) == 100)
    tail.pass(milliseconds: 5000)
    #expect(distance(&tail) == 300)
    tail.transaction(200, "a")
    #expect(distance(&tail) == 100)
    tail.pass(milliseconds: 5000)
    #expect(distance(&tail) == 300)
    tail.truncation(300)
    #expect(distance(&tail) == 100)
  }
}
