/// Which of the commands that reach past the namespace may be used through the socket.
public struct CommandSettings: Sendable, Hashable {
  /// What is refused unless it is allowed: Redis's categories `@admin` and `@dangerous`, without those commands that
  /// can do no more harm than others. Lower case.
  /// Source: Redis 7.0's COMMAND.
  public static let refused = [
    "acl", "bgrewriteaof", "bgsave", "client", "config", "debug", "failover", "flushall", "flushdb",
    "latency",
    "migrate",
    "module", "monitor", "pfdebug", "pfselftest", "replicaof", "restore-asking", "save", "shutdown",
    "slaveof",
    "slowlog", "swapdb",
  ]

  /// What of them does no more than tell the caller something, and is never refused.
  static let harmless: Set<String> = [
    "acl|cat", "acl|genpass", "acl|help", "acl|whoami", "config|get", "config|help", "debug|help",
    "latency|doctor",
    "latency|graph", "latency|help", "latency|histogram", "latency|history", "latency|latest", "module|help",
    "module|list", "slowlog|get", "slowlog|help", "slowlog|len",
  ]

  /// Names, or names with a subcommand behind a bar: `config|set`. Lower case.
  public var allowed: Set<String>

  public init(allowed: Set<String> = []) { self.allowed = allowed }

  /// Whether a command that is among `refused` may be used; both in lower case.
  public func allows(_ name: String, _ subcommand: String) -> Bool {
    allowed.contains(name) || allows(only: name + "|" + subcommand)
  }

  private func allows(only full: String) -> Bool { allowed.contains(full) || Self.harmless.contains(full) }
}

extension OptionLoader {
  mutating func commands(_ top: Section) -> CommandSettings {
    let section = section("commands", in: top)
    let path = "commands.allow"
    let names = list(path, in: section) { (loader: inout OptionLoader, node, steps) -> String? in
      guard let text = loader.nonEmpty(node, option: path + Self.element, steps: steps) else { return nil }
      let name = text.text.lowercased()
      let command = name.split(separator: "|", maxSplits: 1).first.map(String.init) ?? name
      guard CommandSettings.refused.contains(command) else {
        loader.error(
          text.place, .badValue, steps,
          "\(text.shown) is none of the commands that can be allowed here: "
            + CommandSettings.refused.joined(separator: ", "),
          suggestion: text.isExpanded ? nil : nearest(to: command, among: CommandSettings.refused))
        return nil
      }
      return name
    }
    return CommandSettings(allowed: Set(names ?? []))
  }
}
