import ArgumentParser
import Configuration
import Invalidation
import Postgres

struct Explain: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show which keys, prefixes and tags a change of a row would clear, and why not.",
    discussion: """
      The row is a JSON object of columns. With --old it is an UPDATE (the new row and the old one); otherwise \
      an INSERT, or what --operation says. If PostgreSQL can be reached, columns, types and the replica \
      identity are taken into account.

      EXAMPLES
        nearside explain --config config.json users '{"id":42,"email":"Ann@example.org"}'
        nearside explain --config config.json users '{"id":42,"email":"b@x"}' --old '{"id":42,"email":"a@x"}'
      """)

  @OptionGroup var configurationOption: ConfigurationOption

  @Argument(help: "The table, with its schema unless that is public.")
  var table: String

  @Argument(help: "The row, as a JSON object.")
  var row: String

  @Option(help: ArgumentHelp("The row before the change, as a JSON object.", valueName: "JSON"))
  var old: String?

  @Option(help: ArgumentHelp("insert, update, delete or truncate.", valueName: "NAME"))
  var operation: String?

  @Flag(help: "Do not ask PostgreSQL about columns, types and replica identity.")
  var offline = false

  func run() throws {
    let settings = try configurationOption.load().settings
    let plan = KeyPlan(settings)
    let parts = table.split(separator: ".", maxSplits: 1).map(String.init)
    let (schema, name) = parts.count == 2 ? (parts[0], parts[1]) : ("public", table)
    guard let index = plan.ruleIndex(schema: schema, name: name) else {
      Output.error("No mapping names table \(schema).\(name), so a change of its rows clears no key.")
      throw ExitCode(ExitStatus.data)
    }
    let row = try columns(of: row)
    let before = try old.map { try columns(of: $0) }
    guard
      let operation = operation.map({ RowOperation(rawValue: $0.lowercased()) })
        ?? (before == nil ? .insert : .update)
    else {
      throw ValidationError("--operation is insert, update, delete or truncate")
    }
    var catalogue: CatalogueTable?
    if !offline {
      do throws(PostgresError) {
        let session = try SQLSession(settings.postgres)
        catalogue = try Catalogue.read(
          schema: schema, name: name, publication: settings.postgres.publication, session
        ).first
      } catch {
        Output.error("PostgreSQL was not asked: \(error)")
      }
    }
    let explained = plan.explain(
      table: index, catalogue: catalogue, new: operation == .delete ? nil : row,
      old: operation == .delete ? row : before, operation: operation)
    for entry in explained {
      let image = entry.image == .old ? " (old row)" : ""
      let tag = entry.kind == .tag ? "tag " : ""
      switch entry.outcome {
      case .key(let key): print("\(tag)\(key)    \(entry.template)\(image)")
      case .none(let reason): print("\(tag)-    \(entry.template)\(image): \(reason)")
      }
    }
    let asked = plan.explainLookups(
      table: index, catalogue: catalogue, new: operation == .delete ? nil : row,
      old: operation == .delete ? row : before, operation: operation)
    for lookup in asked {
      let templates = lookup.rule.keys.map(\.description).joined(separator: ", ")
      let values = lookup.values.isEmpty ? "" : " with " + lookup.values.joined(separator: ", ")
      print(
        "found by lookup    \(templates): \(lookup.rule.sql.rendered { ":" + lookup.rule.sql.names[$0] })\(values)"
      )
    }
  }

  private func columns(of text: String) throws -> [String: String?] {
    switch RowJSON.columns(text) {
    case .success(let columns): return columns
    case .failure(let trouble):
      Output.error(trouble.sentence)
      throw ExitCode(ExitStatus.data)
    }
  }
}
