"""The data set loaders of scikit-learn, and OpenML, as data sources of flowgmm."""
