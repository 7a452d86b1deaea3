#pragma once

#include <string>
#include <vector>

#include "postgres/source_setup.h"

namespace etl {

/// What a pipeline does at its source, as far as rights are concerned.
struct SourceGrants {
  std::string role;
  std::string database;  ///< empty: not known
  std::string publication;
  bool publication_exists = false;
  std::vector<TableName> tables;  ///< as they are published
  std::vector<TableName> leaves;  ///< of the partitioned ones: copies read them
};

/// Statements that let the role do that, and no more: for a superuser or the tables' owner. Pure.
std::vector<std::string> SourceGrantsSql(const SourceGrants& grants);

}  // namespace etl
