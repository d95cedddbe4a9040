import Metrics

/// What is wrong with a sidecar, and what to do about it: judged from one report, by nothing else.
public struct Health: Sendable, Equatable {
  public enum Severity: String, Sendable { case warning, error }

  public struct Problem: Sendable, Equatable {
    /// What it is about; the same words as the label of `nearside_health`.
    public var part: Part
    public var severity: Severity
    /// What is wrong, as a sentence.
    public var what: String
    /// What to do, as a sentence.
    public var fix: String
  }

  public enum Part: String, Sendable, CaseIterable {
    case replication, staleness, redis, postgres, slot, loader, writes, clients, generation, audit,
      configuration
  }

  public var problems: [Problem] = []
  /// Whether reads are answered, from the near cache or past it.
  public var isReady: Bool
  /// Whether also the log is followed, and near values are as fresh as promised.
  public var isStrictlyReady: Bool

  public enum State: String, Sendable { case ok, warning, failing }

  public var state: State {
    if problems.contains(where: { $0.severity == .error }) || !isReady { return .failing }
    return problems.isEmpty ? .ok : .warning
  }

  public init(_ report: SidecarReport) {
    let loop = report.loop
    let isFresh = loop.staleness.map { $0 <= loop.stalenessBound } ?? false
    isReady = loop.isAccepting && (loop.isEmbedded || isFresh || loop.redis?.isUp == true)
    isStrictlyReady = isReady && loop.isConnected && isFresh
    judgeReplication(loop)
    judgeFreshness(loop, isFresh)
    judgeRedis(loop, report.redis)
    if let slot = loop.tail?.slot { judge(slot) }
    judgeWork(loop)
    if let audit = loop.audit { judge(audit) }
    judge(report.reloads)
  }

  private mutating func error(_ part: Part, _ what: String, _ fix: String) {
    problems.append(Problem(part: part, severity: .error, what: what, fix: fix))
  }

  private mutating func warn(_ part: Part, _ what: String, _ fix: String) {
    problems.append(Problem(part: part, severity: .warning, what: what, fix: fix))
  }

  private mutating func judgeReplication(_ loop: LoopReport) {
    if let trouble = loop.trouble {
      if loop.isPostgresAway {
        error(
          .postgres, "PostgreSQL cannot be reached: \(trouble)",
          "Check that the server runs and that this host reaches it. Near answers go on until their evidence is "
            + "older than the bound.")
      } else if loop.role == "waiting" {
        error(.replication, Self.sentence(trouble), "nearside doctor says what is missing and how to add it.")
      } else {
        warn(
          .replication, Self.sentence(trouble),
          "Every change of such a table costs a new generation until its rules hold again; nearside check "
            + "names them.")
      }
    }
    if !loop.isEmbedded, loop.standing != "following" {
      let fix =
        if loop.standing.hasPrefix("other mapping") {
          "Give all sidecars of this namespace the same tables, caches' tags and namespace."
        } else if loop.standing.hasPrefix("unreachable") {
          "Check that Redis runs and that this host reaches it."
        } else {
          "It mends itself as soon as a sidecar of this namespace holds the replication slot; see the log of the "
            + "one that should."
        }
      error(.generation, "This host does not follow the fleet: \(loop.standing).", fix)
    } else if !loop.generation.isCleared {
      warn(
        .generation,
        "Redis is being cleared of values of an older generation; until then they count as misses.",
        "Nothing to do: it ends by itself.")
    } else if loop.generation.isWatching {
      warn(
        .generation,
        "Transactions from before the slot are still open; the first that commits a change costs a "
          + "new generation.",
        "pg_stat_activity and pg_prepared_xacts show them; end those that nobody needs.")
    }
  }

  private mutating func judgeFreshness(_ loop: LoopReport, _ isFresh: Bool) {
    guard !isFresh else { return }
    let bound = Self.seconds(loop.stalenessBound)
    let what =
      loop.staleness.map {
        "The evidence that near values are current is \(Self.seconds($0)) old; the bound is \(bound)."
      } ?? "There is no evidence yet that near values are current."
    error(
      .staleness, what,
      "Reads are answered as staleness.beyond says until a sidecar tails again: mend what is named beside this; if "
        + "nothing is, look at the sidecar that holds the replication slot.")
  }

  private mutating func judgeRedis(_ loop: LoopReport, _ redis: RedisReport?) {
    if let link = loop.redis, !link.isUp {
      error(
        .redis, "Redis does not answer: \(link.trouble ?? "the connection is being made")",
        "Check that it runs, that this host reaches it, and its user and password.")
    }
    if let used = redis?.usedMemory, let most = redis?.mostMemory, most > 0, used >= most / 20 * 19 {
      warn(
        .redis, "Redis uses \(used * 100 / most) % of its maxmemory.",
        "Give it more memory, or values shorter lives: a full Redis refuses writes or evicts, and evicting "
          + "Nearside's state costs a new generation.")
    }
  }

  private mutating func judge(_ slot: SlotReport) {
    switch slot.walStatus {
    case "lost":
      error(
        .slot, "PostgreSQL has removed log that replication slot \(slot.name) still needed.",
        "It is made anew by itself; raise max_slot_wal_keep_size if this comes again.")
    case "unreserved":
      warn(
        .slot, "Replication slot \(slot.name) is about to lose log that it needs.",
        "See that this sidecar keeps up, or raise max_slot_wal_keep_size.")
    default:
      let much = min(1 << 30, slot.bound.map { $0 / 2 } ?? .max)
      if let retained = slot.retained, retained > much {
        let end = slot.bound.map {
          ", which is given up beyond \($0 >> 20) MiB, at the price of a cold cache"
        }
        warn(
          .slot,
          "PostgreSQL keeps \(retained >> 20) MiB of log for replication slot \(slot.name)\(end ?? "").",
          "A long transaction on the primary, or a sidecar that cannot keep up: look at pg_stat_activity and the lag."
        )
      }
    }
  }

  private mutating func judgeWork(_ loop: LoopReport) {
    if loop.loader?.isAway == true {
      error(
        .loader, "Statements of load find no database.",
        "Check postgres.loader.url, and that its server runs and has connections left.")
    }
    if let behind = loop.writes.behind {
      if let trouble = behind.trouble {
        error(
          .writes, Self.sentence(trouble), "Writes wait in Redis meanwhile, and are carried out afterwards.")
      }
      if behind.dead > 0 {
        warn(
          .writes, "\(behind.dead) writes were given up, since PostgreSQL refuses them.",
          "They are in the stream of dead writes, each with its reason: mend and replay them, or remove them."
        )
      }
    }
    let clients = loop.clients
    if clients.limit > 0, clients.now >= clients.limit / 10 * 9, clients.now > 8 {
      warn(
        .clients, "\(clients.now) of at most \(clients.limit) clients are connected.",
        "Raise clients.max and the limit of open files, or let applications share connections.")
    }
  }

  private mutating func judge(_ audit: AuditReport) {
    guard audit.stale > 0 else { return }
    warn(
      .audit,
      "Of \(audit.samples) cached values that were compared with the database, \(audit.stale) were stale.",
      "The log says what is known of each. Most often somebody writes to Redis past the socket, or a table that load "
        + "reads has no rule (nearside check); clear them with nearside invalidate.")
  }

  private mutating func judge(_ reloads: ReloadReport) {
    guard let trouble = reloads.trouble else { return }
    let first = trouble.split(whereSeparator: \.isNewline).first.map(String.init) ?? ""
    warn(
      .configuration, "The newest configuration was refused: \(Self.sentence(first))",
      "The one of before is in force. Mend the file, which nearside check examines, and reload: the sidecar would not "
        + "start with it.")
  }

  private static func sentence(_ text: String) -> String { text.hasSuffix(".") ? text : text + "." }

  static func seconds(_ nanoseconds: UInt64) -> String {
    "\((Double(nanoseconds) / 1e8).rounded() / 10) s"
  }

  var json: JSONText {
    [
      "live": true, "ready": .flag(isReady), "strict": .flag(isStrictlyReady), "state": .text(state.rawValue),
      "problems": .list(
        problems.map {
          [
            "part": .text($0.part.rawValue), "severity": .text($0.severity.rawValue), "what": .text($0.what),
            "fix": .text($0.fix),
          ]
        }),
    ]
  }
}

extension LoopReport {
  /// Whether the log is followed: by a slot of this process's own, or through the fleet's feed.
  var isConnected: Bool {
    role != "waiting" && standing == "following"
  }

  var isTailing: Bool { role == "tailer" || role == "standalone" }
}
