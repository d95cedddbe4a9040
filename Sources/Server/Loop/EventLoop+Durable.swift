import Configuration
import Invalidation

/// Writes into PostgreSQL's log what is to be cleared, for NEARSIDE INVALIDATE … DURABLE. The event loop does not know
/// PostgreSQL: whoever starts it hands it a writer.
public protocol LogWriter: Sendable {
  /// Begins and returns at once, from any thread. The outcome arrives exactly once, by `LoopMailbox.written`; not at
  /// all only if the process is stopping.
  func submit(_ order: LogOrder)
}

/// What is to be cleared by the log.
public struct LogOrder: Sendable, Hashable {
  public enum Names: Sendable, Hashable {
    /// Whole keys, and prefixes with a `*` behind them.
    case keys([String])
    case tags([String])
  }

  /// Names the order in its outcome.
  public var id: UInt64
  public var names: Names

  public init(id: UInt64, names: Names) {
    self.id = id
    self.names = names
  }
}

/// Why an order was not carried out.
public struct LogFailure: Error, Sendable, Hashable {
  /// It may have been carried out all the same. To repeat it does no harm.
  public var isUnknown: Bool
  /// Too many orders wait, or this one has waited for too long.
  public var isOverload: Bool
  /// What happened, as a sentence with its full stop.
  public var sentence: String

  public init(_ sentence: String, isUnknown: Bool = false, isOverload: Bool = false) {
    self.sentence = sentence
    self.isUnknown = isUnknown
    self.isOverload = isOverload
  }

  /// What a client is told, with its code.
  var reply: String {
    // A line break would end the reply.
    let line = String(sentence.map { $0 == "\n" || $0 == "\r" || $0 == "\r\n" ? " " : $0 })
    return isUnknown
      ? "ERR Nearside: it is not known whether PostgreSQL's log holds this; repeat it, which does no harm: \(line)"
      : "\(isOverload ? "TRYAGAIN" : "ERR") Nearside: PostgreSQL's log does not hold this: \(line)"
  }
}

/// NEARSIDE INVALIDATE … DURABLE: through the log, so that every sidecar hears of it whenever it is back, as of a
/// change of a row. The other forms go through Redis, and are lost with it.
extension EventLoop {
  mutating func invalidateDurably(_ request: Request, _ slot: Int) {
    guard let names = names(request, slot) else { return }
    guard let logWriter else {
      return reply(slot) { $0.error("ERR Nearside: nobody here writes into PostgreSQL's log") }
    }
    counters.durable += 1
    let id = UInt64(counters.durable)
    orders[id] = (clients[slot].token, clients[slot].holdNext())
    logWriter.submit(LogOrder(id: id, names: names))
  }

  /// What the command names, ready for PostgreSQL; nil: it was answered by an error.
  private mutating func names(_ request: Request, _ slot: Int) -> LogOrder.Names? {
    let namespace = settings.keyPrefix
    var texts: [String] = []
    for index in 3..<max(3, request.count - 1) {
      let name = request[index]
      guard !name.contains(0), let text = String(validating: name, as: UTF8.self) else {
        return refuse("DURABLE goes through PostgreSQL, so every name must be UTF-8 without zero bytes", slot)
      }
      texts.append(text)
    }
    switch request.word(2) {
    case "all": return .keys([namespace + "*"])
    case "prefix", "tag":
      let isTag = request.isWord(2, "tag")
      if !isTag, texts[0].hasSuffix("*") { texts[0].removeLast() }
      let problem = problem(withGroup: [isTag ? KeyGroup.tag : KeyGroup.prefix] + Array(texts[0].utf8))
      if let problem { return refuse(problem, slot) }
      return isTag ? .tags(texts) : .keys([texts[0] + "*"])
    default:
      for text in texts {
        guard text.utf8.starts(with: namespace.utf8), !text.hasSuffix("*"),
          text.utf8.count <= PackedKeys.longestKey
        else {
          return refuse(
            "with DURABLE a key begins with this fleet's namespace, \"\(namespace)\", does not end in *, and has at "
              + "most \(PackedKeys.longestKey) bytes", slot)
        }
      }
      return .keys(texts)
    }
  }

  private mutating func refuse(_ problem: String, _ slot: Int) -> LogOrder.Names? {
    reply(slot) { $0.error("ERR Nearside: \(problem)") }
    return nil
  }

  /// An order has been carried out; `position`: the log holds it before this.
  mutating func written(_ id: UInt64, _ outcome: Result<LSN, LogFailure>) {
    if case .failure = outcome { counters.durableFailed += 1 }
    guard let (client, number) = orders.removeValue(forKey: id), isAlive(client) else { return }
    let slot = Int(client.slot)
    clients[slot].settle(held: number) { output in
      switch outcome {
      case .success(let position): output.bulk(position.description)
      case .failure(let failure): output.error(failure.reply)
      }
    }
    markDirty(slot)
  }
}
