import ArgumentParser

struct Invalidate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Clear a key, a prefix, a tag or everything, on every host.",
    discussion: """
      The same as NEARSIDE INVALIDATE on the socket. A key is given whole, with its namespace; a word that ends in * \
      is a prefix, and tag:NAME a tag. Prints how many keys, prefixes and tags were cleared.

      EXAMPLES
        nearside invalidate shop:user:42
        nearside invalidate 'shop:user:*' tag:front-page
        nearside invalidate --all
      """)

  @OptionGroup var adminOption: AdminOption

  @Flag(help: "Everything of the namespace: a new generation begins.")
  var all = false

  @Argument(help: ArgumentHelp("What is to be cleared.", valueName: "KEY|PREFIX*|tag:NAME"))
  var things: [String] = []

  func validate() throws {
    guard all == things.isEmpty else {
      throw ValidationError("Name keys, prefixes (with a * behind) or tags (tag:NAME), or give --all alone.")
    }
    guard !things.contains(where: { $0.contains("\n") }) else {
      throw ValidationError(
        "A key with a line break cannot be given here; use NEARSIDE INVALIDATE on the socket.")
    }
  }

  /// The lines that POST /invalidate takes.
  static func order(_ things: [String], all: Bool) -> String {
    if all { return "all\n" }
    return things.map { thing in
      if thing.hasPrefix("tag:") { return "tag \(thing.dropFirst(4))\n" }
      if thing.hasSuffix("*") { return "prefix \(thing.dropLast())\n" }
      return "key \(thing)\n"
    }.joined()
  }

  func run() throws {
    let client = try adminOption.client()
    let answer = try AdminOption.asking {
      try client.request("POST", "/invalidate", body: Self.order(things, all: all))
    }
    guard answer.status == 200 else {
      Output.error(answer.body)
      throw ExitCode(answer.status == 400 ? ExitStatus.data : ExitStatus.unavailable)
    }
    print(answer.body, terminator: answer.body.hasSuffix("\n") ? "" : "\n")
  }
}
