import Configuration
import Invalidation

extension PostgresPreflight {
  static func judge(_ publication: PublicationFacts?, named name: String) -> [Finding] {
    guard let publication else {
      return [
        Finding("publication", .error, "Publication \(name) does not exist.", fix: "Run nearside setup.")
      ]
    }
    var findings = [Finding.good("publication", "Publication \(name) exists.")]
    if publication.missingActions.isEmpty {
      findings.append(.good("publication_actions", "It sends \(SetupPlan.allActions)."))
    } else {
      findings.append(
        Finding(
          "publication_actions", .error,
          "Publication \(name) leaves out \(publication.missingActions.joined(separator: ", ")), so such "
            + "changes would clear no key.",
          fix: "Run ALTER PUBLICATION \(quotedIdentifier(name)) SET (publish = '\(SetupPlan.allActions)')."))
    }
    if publication.viaPartitionRoot {
      findings.append(
        Finding(
          "publication_via_root", .error,
          "Publication \(name) has publish_via_partition_root on, which hides TRUNCATE of a partition.",
          fix: "Run ALTER PUBLICATION \(quotedIdentifier(name)) SET (publish_via_partition_root = false)."))
    } else {
      findings.append(.good("publication_via_root", "It sends partitions under their own names."))
    }
    return findings
  }

  /// - Parameter publication: nil if there is none, which is a finding of its own.
  static func judge(_ facts: TableFacts, publication: String?) -> [Finding] {
    var findings = facts.obstacles.map {
      Finding("table", .error, $0, fix: "Mend that, or take it out of \"tables\".")
    }
    if facts.hasHeirs {
      findings.append(
        Finding(
          "table_heirs", .warning,
          "Other tables inherit from \(facts.table); their rows change under their own names.",
          fix: "Name each of them under tables as well."))
    }
    guard let publication, !facts.relations.isEmpty else { return findings }
    guard facts.isPublished else {
      findings.append(
        Finding(
          "table_published", .error, "Publication \(publication) does not hold table \(facts.table).",
          fix: "Run nearside setup."))
      return findings
    }
    for relation in facts.relations { findings += judge(relation, publication: publication) }
    guard findings.isEmpty else { return findings }
    let leaves = facts.relations.count - 1
    let partitions = leaves == 0 ? "" : " and its \(leaves) partitions are"
    return [
      .good(
        "table_published",
        "\(facts.table)\(partitions.isEmpty ? " is" : partitions) published, whole rows and all of them.")
    ]
  }

  private static func judge(_ relation: CatalogueTable, publication: String) -> [Finding] {
    var findings: [Finding] = []
    if relation.hasRowFilter {
      findings.append(
        Finding(
          "row_filter", .error,
          "Publication \(publication) has a row filter for \(relation.qualifiedName): changes of "
            + "other rows would clear no key.",
          fix: "Take the table out of the publication and add it again without WHERE."))
    }
    guard let columns = relation.publishedColumns else { return findings }
    let missing = relation.identityColumnsNotPublished
    if missing.isEmpty {
      findings.append(
        Finding(
          "column_list", .warning,
          "Publication \(publication) sends only \(columns.joined(separator: ", ")) of "
            + "\(relation.qualifiedName); templates can use no other columns.",
          fix:
            "If that is not on purpose, take the table out of the publication and add it again without a list."
        ))
    } else {
      findings.append(
        Finding(
          "column_list", .error,
          "The column list of publication \(publication) for \(relation.qualifiedName) lacks "
            + "\(missing.joined(separator: ", ")) of the replica identity, so PostgreSQL refuses the "
            + "application's own UPDATE and DELETE.",
          fix: "Take \(quotedName(schema: relation.schema, relation.name)) out of the publication and add it "
            + "again without a column list."))
    }
    return findings
  }
}
