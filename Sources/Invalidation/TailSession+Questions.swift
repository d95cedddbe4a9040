/// What the tail asks PostgreSQL by SQL, when, and what it makes of the answers.
///
/// - *Looks* move V. The first follows a commit at once; while commits stay invisible they grow rarer.
/// - *Samples* make beats. Each is taken after the beat before was stored, and becomes a beat when everything
///   up to the position that it read has been applied. So a beat that is seen after the one before it proves
///   something of every commit that was acknowledged before that one.
/// - *The canary* is an unlogged table that holds the generation. A crash and a promotion empty it, a
///   restored copy holds another one: commits may be lost that readers have cached.
/// - *The fingerprint* tells of definitions that changed without a word in the log.
extension TailSession {
  static let lookPeriod: UInt64 = 1_000_000
  static let longestLookPeriod: UInt64 = 20_000_000
  /// How long a sampled position may be awaited before the log is given a push.
  static let nudgePatience: UInt64 = 20_000_000
  static let nudgePeriod: UInt64 = 50_000_000
  static let fingerprintPeriod: UInt64 = 1_000_000_000
  /// How many times as long as it took it rests at least.
  static let fingerprintRest: UInt64 = 20

  /// One beat on its way: sampled, waited for, stored.
  struct Beat {
    /// When the next sample is due.
    var next: Instant
    /// Before the present sample was asked for.
    private(set) var asked: Instant?
    private(set) var answered: Instant?
    private(set) var sample: Sample?
    private(set) var watched: [UInt64] = []
    private(set) var isJudged = false
    /// Between the request that stores the beat and its reply.
    private(set) var isStoring = false
    /// Samples of an earlier round say nothing of the present generation.
    private(set) var round = 0

    init(next: Instant) { self.next = next }

    mutating func ask(_ watched: [UInt64], now: Instant, period: UInt64) {
      asked = now
      self.watched = watched
      isStoring = false
      next = Instant(nanoseconds: now.nanoseconds + period)
    }

    mutating func heard(_ sample: Sample, now: Instant) {
      self.sample = sample
      answered = now
      isJudged = false
    }

    mutating func judged() { isJudged = true }

    func isReady(at position: LSN, _ weakness: Weakness) -> Bool {
      if weakness.contains(.beatsBeforeApplied) { return sample != nil }
      guard let sample, isJudged else { return false }
      return position >= sample.written
    }

    /// The instant that a write which reaches `position` proves something of, if it is a beat.
    mutating func take(reaching position: LSN, _ weakness: Weakness) -> Instant? {
      guard isReady(at: position, weakness) else { return nil }
      isStoring = true
      sample = nil
      answered = nil
      return asked
    }

    mutating func stored(now: Instant) {
      guard isStoring else { return }
      isStoring = false
      asked = nil
      next = max(next, now)
    }

    /// Rests no longer.
    mutating func hurry(now: Instant) {
      next = min(next, Instant(nanoseconds: now.nanoseconds + Cadence.busy))
    }

    /// Whatever is on its way belongs to a generation that ends.
    mutating func forget() {
      sample = nil
      asked = nil
      answered = nil
      isStoring = false
      round += 1
    }
  }

  /// The question to ask now; nil: none. `drained`: the stream of the log has nothing more at this moment.
  public mutating func ask(now: Instant, drained: Bool) -> Question? {
    guard question == nil else { return nil }
    if wantsFingerprint {
      nextFingerprint = Instant(nanoseconds: now.nanoseconds + Self.fingerprintPeriod)
      question = .fingerprint
    } else if let generation, needsMark {
      question = .mark(generation)
    } else if maySample, now >= beat.next || beat.isStoring {
      beat.ask(
        watch.transactions, now: now, period: cadence.period(quietSince: pace.quietSince, now: now))
      questionRound = beat.round
      question = .sample(watched: watch.transactions)
    } else if drained, let instant = nudgeDue, now >= instant {
      lastNudge = now
      question = .nudge
    } else if now >= nextFingerprint {
      nextFingerprint = Instant(nanoseconds: now.nanoseconds + Self.fingerprintPeriod)
      question = .fingerprint
    } else if let instant = lookDue, now >= instant {
      lastLook = now
      question = .look
    }
    return question
  }

  /// The answer to the question under way.
  public mutating func answered(_ answer: Answer, now: Instant) {
    let asked = question
    question = nil
    switch (asked, answer) {
    case (.look, .look(let snapshot)): judge(snapshot)
    case (.sample, .sample(let sample)):
      judge(sample.snapshot)
      guard questionRound == beat.round, beat.asked != nil else { return }
      if usesCanary, sample.canary != generation, !weakness.contains(.noCanaryInSamples) {
        beat.forget()
        beginGeneration(because: "PostgreSQL has crashed, failed over or been restored: commits may be lost")
        return
      }
      beat.heard(sample, now: now)
    case (.mark(let generation), .marked): isMarked = generation == self.generation
    case (.fingerprint, .fingerprint(let found)):
      let asked = nextFingerprint.back(Self.fingerprintPeriod)
      // Where there are very many tables it takes its time, which looks and samples have to wait for.
      nextFingerprint = max(
        nextFingerprint, Instant(nanoseconds: now.nanoseconds + Self.fingerprintRest * now.since(asked)))
      if found != fingerprint, !weakness.contains(.ignoresFingerprint) {
        fingerprint = found
        if !wantsFingerprint { redefined() }
      }
      wantsFingerprint = false
    case (.nudge, .nudged): break
    default: preconditionFailure("an answer to another question")
    }
  }

  /// Once everything up to a sample's position has been heard, it tells what has become of the transactions
  /// that are watched.
  mutating func judgeSample() {
    guard let sample = beat.sample, !beat.isJudged, position >= sample.written else { return }
    beat.judged()
    if watch.ended(sample, asked: beat.watched), !weakness.contains(.noWatch) {
      beat.forget()
      beginGeneration(
        because: "a transaction from before the replication slot became visible only afterwards")
    }
  }

  private mutating func judge(_ snapshot: Snapshot) {
    let before = pendingCommits.count
    pendingCommits.judge(
      weakness.contains(.ignoresRunning) ? Snapshot(next: snapshot.next, running: []) : snapshot)
    fruitlessLooks = pendingCommits.count < before ? 0 : fruitlessLooks + 1
  }

  /// Not while another generation is being stored, which the canary would then deny.
  private var needsMark: Bool {
    generation != nil && usesCanary && !isMarked && !isBeginning && (due == nil || isEnding)
  }

  private var maySample: Bool {
    let mayAsk = beat.asked == nil || weakness.contains(.pipelinedSamples) && beat.isStoring
    return generation != nil && (isMarked || !usesCanary) && due == nil && ending == nil && mayAsk
  }

  private var nudgeDue: Instant? {
    guard let sample = beat.sample, let answered = beat.answered, position < sample.written,
      !weakness.contains(.noNudge)
    else {
      return nil
    }
    return max(
      Instant(nanoseconds: answered.nanoseconds + Self.nudgePatience),
      Instant(nanoseconds: lastNudge.nanoseconds + Self.nudgePeriod))
  }

  private var lookDue: Instant? {
    guard !pendingCommits.isEmpty else { return nil }
    let period = min(Self.lookPeriod << UInt64(min(fruitlessLooks / 8, 8)), Self.longestLookPeriod)
    return Instant(nanoseconds: lastLook.nanoseconds + period)
  }

  /// When `ask` has something to ask, as things are now. While a question is under way its answer comes
  /// first.
  func whenToAsk(_ now: Instant) -> Instant {
    let latest = Instant(nanoseconds: now.nanoseconds + cadence.resting)
    guard question == nil else { return latest }
    if wantsFingerprint || needsMark { return now }
    var until = min(latest, nextFingerprint)
    if maySample { until = min(until, beat.next) }
    if let instant = nudgeDue { until = min(until, instant) }
    if let instant = lookDue { until = min(until, instant) }
    return max(until, now)
  }
}
