import Testing

/// A checker that never complains would prove anything, so each rule is shown a history that breaks it.
@Suite("The checker of histories complains when it should, and only then")
struct CheckerTests {
  private static func at(_ seconds: Double) -> Moment { .seconds(100 + seconds) }

  /// Key 1: version 1 acknowledged at 10 s, version 2 at 20 s; the bound is 2 s.
  private static func history() -> History {
    var history = History(bound: .seconds(2))
    history.chains = [1: [0, 11, 12]]
    history.writes = [
      .init(key: 1, operation: 11, version: 1, began: at(9.9), acknowledged: at(10)),
      .init(key: 1, operation: 12, version: 2, began: at(19.9), acknowledged: at(20)),
    ]
    return history
  }

  private static func read(
    _ version: Int, _ operation: Int, began: Double, ended: Double? = nil, key: Int = 1
  ) -> History.Read {
    History.Read(
      key: key, version: version, operation: operation, began: at(began), ended: at(ended ?? began + 0.01),
      host: 0)
  }

  private func rules(_ change: (inout History) -> Void) -> [Rule] {
    var history = Self.history()
    change(&history)
    return Checker.violations(in: history).map(\.rule)
  }

  @Test("Values within the bound are right: old ones for a while, new ones as soon as they are written")
  func sound() {
    #expect(
      rules {
        $0.reads = [
          Self.read(0, 0, began: 5), Self.read(0, 0, began: 11.9), Self.read(1, 11, began: 9.95),
          Self.read(1, 11, began: 21.9), Self.read(2, 12, began: 19.95), Self.read(2, 12, began: 500),
        ]
        $0.copies = [.init(place: "Redis", key: 1, version: 2, operation: 12)]
      } == [])
  }

  @Test("A value older than the bound is seen")
  func stale() {
    #expect(rules { $0.reads = [Self.read(0, 0, began: 12.1)] } == [.bound])
    #expect(rules { $0.reads = [Self.read(1, 11, began: 22.1)] } == [.bound])
    #expect(rules { $0.reads = [Self.read(0, 0, began: 500)] } == [.bound])
    // A later acknowledged write proves the earlier one, although nobody was told of that.
    #expect(
      rules {
        $0.writes[0].acknowledged = nil
        $0.reads = [Self.read(0, 0, began: 21.9)]
      } == [])
    #expect(
      rules {
        $0.writes[0].acknowledged = nil
        $0.reads = [Self.read(0, 0, began: 22.1)]
      } == [.bound])
  }

  @Test("Who has waited for a write must not see less, however young it is")
  func ownWrite() {
    func waiting(_ version: Int, _ operation: Int) -> [Rule] {
      rules {
        var read = Self.read(version, operation, began: 20.1)
        read.waitedFor = 12
        $0.reads = [read]
      }
    }
    #expect(waiting(2, 12) == [])
    #expect(waiting(1, 11) == [.ownWrite])
    // Positions of a new timeline mean nothing to a host that still follows the abandoned one, within the bound.
    func promoted(_ loss: Double, began: Double, newTimeline: Bool = true) -> [Rule] {
      rules {
        var read = Self.read(1, 11, began: began)
        read.waitedFor = 12
        $0.reads = [read]
        $0.losses = [.init(at: Self.at(loss), what: "", newTimeline: newTimeline)]
      }
    }
    #expect(promoted(19, began: 20.1) == [])
    #expect(promoted(19, began: 20.1, newTimeline: false) == [.ownWrite])
    #expect(promoted(17, began: 20.1) == [.ownWrite])
    #expect(promoted(20.05, began: 20.1) == [.ownWrite])
  }

  @Test("A value that nobody wrote, or that comes before its write, is seen")
  func phantom() {
    #expect(rules { $0.reads = [Self.read(2, 99, began: 30)] } == [.phantom])
    #expect(rules { $0.reads = [Self.read(2, 12, began: 19, ended: 19.1)] } == [.phantom])
    // A version that exists, with the operation of another.
    #expect(rules { $0.reads = [Self.read(2, 11, began: 30)] } == [.phantom])
  }

  @Test("A lost value may be served until its server is gone and the bound has passed, and no longer")
  func lost() {
    func lose(_ history: inout History, _ reads: [History.Read]) {
      // Version 2 of operation 13 was acknowledged, and lost at 18 s; operation 12 took its number later.
      history.writes.append(
        .init(key: 1, operation: 13, version: 2, began: Self.at(14.9), acknowledged: Self.at(15)))
      history.losses = [.init(at: Self.at(18), what: "promotion")]
      history.reads = reads
    }
    #expect(rules { lose(&$0, [Self.read(2, 13, began: 16), Self.read(2, 13, began: 19.9)]) } == [])
    #expect(rules { lose(&$0, [Self.read(2, 13, began: 20.1)]) } == [.phantom])
    // As long as it was the truth, an older value is stale; afterwards it is right again.
    #expect(rules { lose(&$0, [Self.read(1, 11, began: 17.5)]) } == [.bound])
    #expect(rules { lose(&$0, [Self.read(1, 11, began: 18.5)]) } == [])
    // Without a loss such a value is a phantom at any time.
    #expect(
      rules {
        lose(&$0, [Self.read(2, 13, began: 16)])
        $0.losses = []
      } == [.phantom])
  }

  @Test("A copy that differs from its row after everything has come to rest is seen")
  func quiet() {
    for copy in [
      History.Copy(place: "Redis", key: 1, version: 1, operation: 11),
      History.Copy(place: "Redis", key: 1, version: 2, operation: 13),
      History.Copy(place: "host 1", key: 1, version: 3, operation: 14),
      History.Copy(place: "host 1", key: 7, version: 0, operation: 0),
    ] { #expect(rules { $0.copies = [copy] } == [.quiet]) }
  }

  @Test("Many violations are counted and a few are told")
  func many() {
    var history = Self.history()
    history.reads = (0..<1000).map { Self.read(0, 0, began: 13 + Double($0) / 1000) }
    let all = Checker.violations(in: history)
    #expect(all.count == 6 && all.last?.description == "C1: and 995 more")
  }

  // MARK: What counts

  /// Forty calm windows of 250 ms on two hosts.
  private func busy(_ hits: (Int, Int) -> Int = { _, _ in 95 }) -> History {
    var history = History(bound: .seconds(2))
    history.calms = [.init(from: Self.at(0), to: Self.at(10))]
    for number in 0..<60 {
      for host in 0..<2 {
        let from = Self.at(Double(number) * 0.25)
        history.windows.append(
          .init(host: host, from: from, to: from + .milliseconds(250), reads: 100, hits: hits(host, number)))
      }
    }
    history.allReads = 150_000
    history.nearHits = 100_000
    return history
  }

  @Test("A history with enough reads, near hits and hits outside faults counts")
  func enough() {
    #expect(Checker.shortcomings(of: busy()) == [])
    // In faults anything may happen.
    #expect(Checker.shortcomings(of: busy { $1 < 40 ? 95 : 0 }) == [])
    // A few bad windows are allowed.
    #expect(Checker.shortcomings(of: busy { $1 % 20 == 0 ? 10 : 95 }) == [])
  }

  @Test("A sidecar that always bypasses makes a history worthless, even if the others work")
  func bypass() {
    #expect(Checker.shortcomings(of: busy { _, _ in 0 }).map(\.rule) == [.liveness])
    #expect(Checker.shortcomings(of: busy { host, _ in host == 0 ? 0 : 100 }).map(\.rule) == [.liveness])
    #expect(Checker.shortcomings(of: busy { $1 % 5 == 0 ? 10 : 95 }).map(\.rule) == [.liveness])
  }

  @Test("So does one with too few reads, near hits, or calm")
  func tooLittle() {
    var history = busy()
    history.allReads = 99_999
    #expect(Checker.shortcomings(of: history).map(\.rule) == [.size])
    history = busy()
    history.nearHits = 70_000
    #expect(Checker.shortcomings(of: history).map(\.rule) == [.size])
    history = busy()
    history.calms = []
    #expect(Checker.shortcomings(of: history).map(\.rule) == [.size])
  }

  // MARK: The state

  private func sample(_ change: (inout StateMonitor.Sample) -> Void = { _ in }) -> StateMonitor.Sample {
    var sample = StateMonitor.Sample(
      at: Self.at(0), generation: "a", applied: 100, visible: 90, beats: 5, count: 50, journal: [7, 1],
      watching: false, confirmed: 90)
    change(&sample)
    return sample
  }

  /// Samples between `doubt` and `trust`, given by their places, are seen in doubt.
  private func rules(of samples: [StateMonitor.Sample], doubt: Range<Int> = 0..<0) -> [Rule] {
    var monitor = StateMonitor()
    for (number, sample) in samples.enumerated() {
      if !doubt.isEmpty, number == doubt.lowerBound { monitor.doubt() }
      if !doubt.isEmpty, number == doubt.upperBound { monitor.trust() }
      monitor.see(sample)
    }
    return monitor.violations.map(\.rule)
  }

  @Test("Positions that go back within a generation are seen, each of them")
  func backwards() {
    #expect(rules(of: [sample(), sample(), sample { $0.beats = 6 }]) == [])
    #expect(rules(of: [sample(), sample { $0.applied = 99 }]) == [.monotonic])
    #expect(
      rules(of: [
        sample(),
        sample {
          $0.visible = 80
          $0.confirmed = 80
        },
      ]) == [.monotonic])
    #expect(rules(of: [sample(), sample { $0.beats = 4 }]) == [.monotonic])
    #expect(rules(of: [sample(), sample { $0.count = 49 }]) == [.monotonic])
    #expect(rules(of: [sample(), sample { $0.journal = [7, 0] }]) == [.monotonic])
    #expect(rules(of: [sample(), sample { $0.watching = true }]) == [.monotonic])
    #expect(rules(of: [sample { $0.visible = 101 }]) == [.monotonic])
  }

  @Test("A new generation may begin anywhere; a fault may take one back that is given up")
  func generations() {
    let fresh = sample {
      $0.generation = "b"
      $0.beats = 0
      $0.count = 0
      $0.journal = [0, 0]
    }
    #expect(rules(of: [sample(), fresh]) == [])
    #expect(rules(of: [fresh, sample(), sample { $0.count = 40 }]) == [.monotonic])
    #expect(rules(of: [fresh, sample(), sample { $0.count = 40 }], doubt: 1..<3) == [])
    #expect(rules(of: [sample(), sample { $0.count = 40 }, sample { $0.count = 41 }], doubt: 1..<2) == [])
    // After the doubt everything counts again.
    #expect(
      rules(
        of: [sample(), sample { $0.count = 40 }, fresh, sample { $0.generation = "b" }, fresh], doubt: 1..<2)
        == [.monotonic, .monotonic, .monotonic])
  }

  @Test("A slot that is confirmed beyond V is seen")
  func confirmed() {
    #expect(rules(of: [sample { $0.confirmed = 91 }]) == [.confirmed])
    #expect(rules(of: [sample { $0.confirmed = nil }]) == [])
  }
}
