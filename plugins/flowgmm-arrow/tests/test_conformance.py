from flowgmm_arrow import conformance
from flowgmm_cli.testing import RecipesConformance


class TestArrow(conformance.ArrowConformance):
    name = "arrow"


class TestSql(conformance.SqlConformance):
    name = "sql"


class TestRecipes(RecipesConformance):
    package = "flowgmm-arrow"
    trainings = {"flowgmm-arrow/sql": []}  # noqa: RUF012
    overrides = {"flowgmm-arrow/parquet": ["data.path=rows", "data.label=y"]}  # noqa: RUF012
