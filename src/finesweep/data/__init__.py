"""Reads data files and Hub data sets into clean rows with encoded labels.

Splits are drawn here, not by scikit-learn: its stratified split refuses a class of one row and fewer held-out rows than
classes, and may leave a class no row to train on. CSV is split here, not by pandas: messages name the line of a row,
and stray quotes lose no rows.
"""
