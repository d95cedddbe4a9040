import ArgumentParser
import Configuration
import Glibc

/// Which running sidecar a command asks.
struct AdminOption: ParsableArguments {
  @OptionGroup var configurationOption: ConfigurationOption

  @Option(
    name: .customLong("admin"),
    help: ArgumentHelp(
      "The admin socket of the sidecar. Default: $NEARSIDE_ADMIN, else what the configuration says.",
      valueName: "SOCKET"))
  var admin: String?

  /// Whether somebody has said which sidecar is meant, if only by its configuration.
  var isNamed: Bool {
    admin != nil || Environment.value("NEARSIDE_ADMIN") != nil || configurationOption.isNamed
  }

  /// The endpoint that is to be asked. Ends the process with EX_CONFIG if there is none.
  func client() throws -> AdminClient {
    if let path = admin ?? Environment.value("NEARSIDE_ADMIN") { return AdminClient(path: path) }
    guard let path = try configurationOption.load().settings.admin.socket else {
      Output.error(
        "This configuration has no admin socket. Give \"admin\" a \"socket\", or name one with --admin.")
      throw ExitCode(ExitStatus.configuration)
    }
    if !isNamed, let hint = Self.hint(asked: path, found: Self.sockets(in: "/run")) { Output.error(hint) }
    return AdminClient(path: path)
  }

  /// What to say of a host with several sidecars, of which nobody has said which one is meant; nil: there is one.
  static func hint(asked: String, found: [String]) -> String? {
    let others = found.filter { $0 != asked }.sorted()
    guard !others.isEmpty else { return nil }
    return "This asks the sidecar at \(asked). There \(others.count == 1 ? "is" : "are") also "
      + "\(others.joined(separator: " and ")) on this host; name one with --admin, or its configuration with --config."
  }

  /// Admin sockets where the units put them: in folders whose names begin with `nearside`.
  static func sockets(in folder: String) -> [String] {
    names(in: folder).filter { $0.hasPrefix("nearside") }.flatMap { name in
      names(in: "\(folder)/\(name)").filter { $0.hasSuffix(".admin") }.map { "\(folder)/\(name)/\($0)" }
    }
  }

  private static func names(in folder: String) -> [String] {
    guard let handle = opendir(folder) else { return [] }
    defer { closedir(handle) }
    var names: [String] = []
    while let entry = readdir(handle) {
      names.append(
        withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) })
    }
    return names
  }

  /// Runs what asks a sidecar; EX_UNAVAILABLE if it does not answer.
  static func asking<Result>(_ body: () throws -> Result) throws -> Result {
    do {
      return try body()
    } catch let failure as AdminClient.Failure {
      Output.error(failure.description)
      throw ExitCode(ExitStatus.unavailable)
    }
  }
}
