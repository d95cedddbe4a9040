import Metrics

/// Where the endpoint asks. Every question is answered by calling the closure once, from any thread, at any time,
/// or never: whoever asks waits for 2 s at most.
public protocol AdminSource: Sendable {
  /// Whether the threads that serve clients still turn.
  func whetherAlive(_ answer: @escaping @Sendable () -> Void)
  func report(_ answer: @escaping @Sendable (SidecarReport) -> Void)
  /// What there is of a key, with its value if that is asked for.
  func look(_ key: [UInt8], showsValue: Bool, _ answer: @escaping @Sendable (KeyReport) -> Void)
  /// Whoever hears what clears keys from now on; nil: nobody.
  func tap(_ hear: (@Sendable ([TapEvent]) -> Void)?)
  /// Clears what it names, in the whole fleet.
  func invalidate(_ order: InvalidationOrder, _ answer: @escaping @Sendable (InvalidationAnswer) -> Void)
  /// Reads the configuration again.
  func reload(_ answer: @escaping @Sendable (ReloadAnswer) -> Void)
  /// The settings in force, without secrets.
  var configuration: JSONText { get }
  /// Of this program.
  var version: String { get }
}

/// What POST /invalidate asks for.
public enum InvalidationOrder: Sendable, Equatable {
  case all
  case some(keys: [[UInt8]], prefixes: [[UInt8]], tags: [[UInt8]])

  /// Takes lines such as `key shop:user:42`, `prefix shop:user:`, `tag t` and `all`; nil if one of them is none of these,
  /// or there is none. Empty lines are passed over.
  public init?(body: [UInt8]) {
    var (keys, prefixes, tags): ([[UInt8]], [[UInt8]], [[UInt8]]) = ([], [], [])
    var isAll = false
    for line in body.split(separator: UInt8(ascii: "\n")) {
      let line = line.last == UInt8(ascii: "\r") ? line.dropLast() : line
      if line.isEmpty { continue }
      if line.elementsEqual("all".utf8) {
        isAll = true
        continue
      }
      guard let space = line.firstIndex(of: UInt8(ascii: " ")), space + 1 < line.endIndex else { return nil }
      let name = Array(line[(space + 1)...])
      switch String(decoding: line[..<space], as: UTF8.self) {
      case "key": keys.append(name)
      case "prefix": prefixes.append(name)
      case "tag": tags.append(name)
      default: return nil
      }
    }
    let isSome = !(keys.isEmpty && prefixes.isEmpty && tags.isEmpty)
    guard isAll != isSome else { return nil }
    self = isAll ? .all : .some(keys: keys, prefixes: prefixes, tags: tags)
  }
}

public enum InvalidationAnswer: Sendable, Equatable {
  /// How many names were cleared.
  case done(Int)
  /// Why not, as a sentence.
  case failed(String)
}

/// What POST /reload has done. Declared here for whoever reads configurations.
public enum ReloadAnswer: Sendable, Equatable {
  /// The names of the options that hold from now on, and of those that need a restart.
  case reloaded(changed: [String], needRestart: [String])
  /// Nothing has changed; why, as a sentence.
  case refused(String)
}
